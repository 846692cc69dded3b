"""Conversion between frames (uint8 RGB arrays) and pixels (tensors in [-1, 1])."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ipfvr.core.shapes import Float, UInt8


def to_tensor(frames: UInt8[np.ndarray, "f h w 3"]) -> Float[Tensor, "f 3 h w"]:
    """Convert (F, H, W, 3) uint8 to (F, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_frames(pixels: Float[Tensor, "f 3 h w"]) -> UInt8[np.ndarray, "f h w 3"]:
    """Convert (F, 3, H, W) in [-1, 1] (clipped) to (F, H, W, 3) uint8.

    Examples:
        >>> frames = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
        >>> bool((to_frames(to_tensor(frames)) == frames).all())
        True
    """
    scaled = ((pixels.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round()
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def resize(pixels: Float[Tensor, "n 3 h w"], size: int) -> Float[Tensor, "n 3 {size} {size}"]:
    """Resize frames (N, 3, h, w) to ``size`` x ``size``: bicubic, antialiased where they shrink, clipped to [-1, 1].

    Enlarging low-quality frames this way gives the hint's input and the baseline 'bicubic'.
    """
    if pixels.shape[-2:] == (size, size):
        return pixels
    shrinks = size < max(pixels.shape[-2:])
    mode = {"mode": "bicubic", "align_corners": False, "antialias": shrinks}
    return functional.interpolate(pixels, (size, size), **mode).clamp(-1, 1)


def resize_frames(
    frames: UInt8[np.ndarray, "f h w 3"], width: int, height: int | None = None
) -> UInt8[np.ndarray, "f h2 w2 3"]:
    """Resize frames (F, h, w, 3) uint8: bicubic, antialiased where they shrink, rounded to 8 bits.

    Args:
        frames: any size.
        width: of the result, pixels.
        height: of the result, pixels; None: as ``width``.

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


def resize_frame(image: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Resize one frame (h, w, 3) uint8 as :func:`resize_frames` resizes several."""
    return resize_frames(image[None], width, height)[0]
