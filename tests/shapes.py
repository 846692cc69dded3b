"""What jaxtyping's import hook puts on each function: beartype, for the annotations that name a shape."""

from __future__ import annotations

import inspect
from typing import Any

from beartype import beartype

from ipfvr.core import shapes


def check_shapes(subject: Any) -> Any:
    """A function with its shapes checked; one that names none, and a class, as they are.

    Other annotations are left out. They hold by duck typing, for example where a test passes a stand-in.
    """
    if not inspect.isfunction(subject):
        return subject
    hints = {k: v for k, v in subject.__annotations__.items() if any(f"{name}[" in str(v) for name in shapes.__all__)}
    if not hints:
        return subject
    subject.__annotations__ = hints
    return beartype(subject)
