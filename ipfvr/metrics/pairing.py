"""Pairing a clip's frames with their ground truth, in batches, at one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.pixels import resize_frame

BATCH = 8  # frames scored at once: bounds memory, changes nothing

Pair = tuple[np.ndarray, np.ndarray | None]


def unit(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 to (F, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def paired(prediction: Iterable[np.ndarray], target: Iterable[np.ndarray] | None, name: str) -> Iterator[Pair]:
    """Frames with their ground truth; a difference in number is an error that names both."""
    if target is None:
        yield from ((p, None) for p in prediction)
        return
    left, right = iter(prediction), iter(target)
    count = 0
    while True:
        p, t = next(left, None), next(right, None)
        if p is None or t is None:
            break
        count += 1
        yield p, t
    if p is not None or t is not None:
        here = count + (p is not None) + sum(1 for _ in left)
        there = count + (t is not None) + sum(1 for _ in right)
        raise UserError(f"{name}: the prediction has {here} frames, the ground truth {there}; cut both alike")


def batches(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    """Lists of :data:`BATCH` pairs, the last one shorter."""
    batch = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def fit(prediction: np.ndarray, target: np.ndarray | None, name: str, resize: bool) -> np.ndarray:
    """Return a predicted frame at its ground truth's size.

    Raises:
        UserError: it has another size, and ``resize`` is False.
    """
    if target is None or prediction.shape == target.shape:
        return prediction
    if not resize:
        (h, w), (th, tw) = prediction.shape[:2], target.shape[:2]
        raise UserError(f"{name}: predicted frames are {w} x {h}, the ground truth's {tw} x {th}; allow resizing")
    return resize_frame(prediction, target.shape[1], target.shape[0])
