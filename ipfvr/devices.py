"""Where things are computed, and in which type."""

from __future__ import annotations

import torch

from ipfvr.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device that ``device=`` names; ``auto`` is the GPU where there is one.

    Raises:
        UserError: a name torch does not know, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device={name} is not a device; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name}: torch sees no GPU here; use device=cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type that ``dtype=`` names; ``auto`` is bf16 on a GPU, fp32 on a CPU.

    Raises:
        UserError: an unknown name.
    """
    if name == "auto":
        name = "bf16" if device.type == "cuda" else "fp32"
    known = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name not in known:
        raise UserError(f"dtype={name} is unknown: use auto, {', '.join(known)}")
    return known[name]
