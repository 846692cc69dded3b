"""The shapes that annotations name are checked in every call that the tests make of them (``conftest.py``)."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CHECKS_SHAPES, SHAPED

import ipfvr

pytestmark = pytest.mark.skipif(not CHECKS_SHAPES, reason="pip install 'ipfvr[dev]' checks shapes")


@pytest.mark.parametrize("name", SHAPED)
def test_a_checked_module_annotates_shapes(name: str) -> None:
    """And was imported through the hook: a module that somebody imports before it would go unchecked."""
    module = importlib.import_module(name)
    assert "ipfvr.core.shapes" in Path(module.__file__).read_text()
    assert "jaxtyp" in type(module.__spec__.loader).__module__


def test_every_module_with_shapes_is_checked() -> None:
    root = Path(ipfvr.__file__).parent
    text = "from ipfvr.core.shapes import"
    users = {path for path in root.rglob("*.py") if text in path.read_text()}
    assert {".".join(path.relative_to(root.parent).with_suffix("").parts) for path in users} == set(SHAPED)


def test_wrong_shapes_and_types_are_refused() -> None:
    from jaxtyping import TypeCheckError

    from ipfvr.core.pixels import to_tensor
    from ipfvr.diffusion.long_video import exponential_blending
    from ipfvr.identity.reward import identity_reward
    from ipfvr.metrics.fidelity import psnr

    frames = torch.zeros(2, 3, 8, 8)
    psnr(frames, frames)
    for call in (
        lambda: psnr(frames, frames[:1]),  # it would broadcast
        lambda: psnr(frames[:, :1], frames[:, :1]),
        lambda: identity_reward(torch.zeros(4, 8), torch.zeros(2, 8)),
        lambda: exponential_blending(torch.zeros(1, 4, 8, 2, 2), [torch.zeros(1, 4, 8, 2, 3)], 2),
        lambda: to_tensor(np.zeros((2, 8, 8, 3))),  # float: it would be scaled as if it were uint8
    ):
        with pytest.raises(TypeCheckError):
            call()
