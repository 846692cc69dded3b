"""Importing without looking for garbage."""

from __future__ import annotations

import gc

import pytest

from ipfvr.core.startup import importing


def test_garbage_is_looked_for_again_whatever_happens() -> None:
    """Within, nothing is collected; afterwards it is, after an import that fails too."""
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ModuleNotFoundError), importing():
        import ipfvr.nothing_of_this_name  # noqa: F401
    assert gc.isenabled()
    gc.unfreeze()
