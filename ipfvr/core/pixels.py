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


def resize_frames(frames: UInt8[np.ndarray, "f h w 3"], size: int) -> UInt8[np.ndarray, "f {size} {size} 3"]:
    """Resize square frames (F, h, w, 3) uint8 to (F, size, size, 3) as :func:`resize` does."""
    return frames if frames.shape[1:3] == (size, size) else to_frames(resize(to_tensor(frames), size))


def resize_frame(image: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Resize a uint8 RGB (H, W, 3) frame: bicubic, antialiased where it shrinks, rounded to 8 bits."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    shrinks = width < image.shape[1] or height < image.shape[0]
    resized = functional.interpolate(pixels, size=(height, width), mode="bicubic", antialias=shrinks)
    return resized[0].permute(1, 2, 0).clamp(0, 255).round().to(torch.uint8).numpy()
