"""Between frames (uint8 RGB arrays) and pixels (tensors in [-1, 1])."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def to_tensor(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 to (F, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_frames(pixels: Tensor) -> np.ndarray:
    """(F, 3, H, W) in [-1, 1] (clipped) to (F, H, W, 3) uint8."""
    scaled = ((pixels.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round()
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def resize(pixels: Tensor, size: int) -> Tensor:
    """Frames (N, 3, h, w) brought to ``size`` x ``size``: bicubic, antialiased where they shrink, clipped to [-1, 1].

    Enlarging low-quality frames this way gives the hint's input and the baseline 'bicubic'.
    """
    if pixels.shape[-2:] == (size, size):
        return pixels
    shrinks = size < max(pixels.shape[-2:])
    mode = {"mode": "bicubic", "align_corners": False, "antialias": shrinks}
    return functional.interpolate(pixels, (size, size), **mode).clamp(-1, 1)


def resize_frames(frames: np.ndarray, width: int, height: int | None = None) -> np.ndarray:
    """Frames (F, h, w, 3) uint8 at another size: bicubic, antialiased where they shrink, rounded to 8 bits.

    Args:
        frames: of any size.
        width: wanted, pixels.
        height: wanted, pixels; None: as ``width``.

    Returns:
        (F, height, width, 3) uint8.
    """
    height = width if height is None else height
    if frames.shape[1:3] == (height, width):
        return frames
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    shrinks = width < frames.shape[2] or height < frames.shape[1]
    resized = functional.interpolate(pixels, size=(height, width), mode="bicubic", antialias=shrinks)
    return resized.permute(0, 2, 3, 1).clamp(0, 255).round().to(torch.uint8).numpy()


def resize_frame(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """One frame (h, w, 3) uint8 as :func:`resize_frames` resizes several."""
    return resize_frames(image[None], width, height)[0]
