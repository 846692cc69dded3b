"""Weights that are made from the names of a network's tensors."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ipfvr.core.options import DenoiserConfig

SMALL = DenoiserConfig(width=32, head_dim=16)


def parity_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """One tensor a name, drawn from a generator that the name's CRC-32 seeds.

    Vectors are 1 + 0.1 a (``weight``) or 0.1 a, others a / sqrt(fan in), where a is standard normal.

    Args:
        shapes: name -> shape.

    Returns:
        name -> float32 tensor.
    """
    return {name: torch.from_numpy(_draw(name, tuple(shape))) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    a = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF).standard_normal(shape)
    if len(shape) == 1:
        a = 1 + 0.1 * a if name.endswith("weight") else 0.1 * a
    else:
        a = a / math.sqrt(math.prod(shape[1:]))
    return a.astype(np.float32)
