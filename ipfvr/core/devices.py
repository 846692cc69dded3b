"""The device and the number type of the computation."""

from __future__ import annotations

from pathlib import Path

import torch

from ipfvr.core.choices import Types
from ipfvr.core.errors import UserError

CPU_INFO = Path("/proc/cpuinfo")  # what Linux says of the processor


def choose_device(name: str) -> torch.device:
    """Return the device that ``device=`` names; ``auto`` is the GPU where there is one.

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
    """Return the type that ``dtype=`` names; ``auto`` is bf16 where the device multiplies in it, else fp32."""
    match Types(name):
        case Types.auto:
            return torch.bfloat16 if multiplies_bf16(device) else torch.float32
        case Types.fp32:
            return torch.float32
        case Types.bf16:
            return torch.bfloat16
        case Types.fp16:
            return torch.float16


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions for bf16 matrices.

    Linux reports it for processors (AMX, AVX512-BF16, Arm's BF16). A processor without them computes in bf16 too, a
    hundred times slower than in fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    known = device.type == "cpu" and CPU_INFO.is_file()
    lines = CPU_INFO.read_text().splitlines() if known else []
    return "bf16" in next((line for line in lines if line.startswith(("flags", "Features"))), "")
