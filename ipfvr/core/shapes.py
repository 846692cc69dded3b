"""Shapes and number types in annotations: ``Float[Tensor, "f 3 h w"]`` is a float tensor with four axes.

Axes with the same name have the same length within a call. Annotations are text, so the package itself needs no library
for them. The tests read them with jaxtyping and beartype (the extra ``dev``) and check every call of the annotated
functions; ``tests/conftest.py`` lists the modules.
"""

from __future__ import annotations

from typing import Any

try:
    from jaxtyping import Bool, Float, Shaped, UInt8
except ImportError:
    Bool = Float = Shaped = UInt8 = Any

__all__ = ["Bool", "Float", "Shaped", "UInt8"]
