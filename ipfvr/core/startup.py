"""Making a program quick to start."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import packages without garbage collection.

    Imports make a million objects that stay to the end. Python's collector would look through them again and again,
    which takes a sixth of the time. Afterwards the collector ignores them.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
