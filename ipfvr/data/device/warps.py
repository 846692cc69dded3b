"""Similarities, smooth displacements and other colours for a batch of frames at once, on their device.

The twins of what :mod:`ipfvr.data.faces` and :mod:`ipfvr.data.variation` do to one frame in NumPy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_KNOTS = 5  # of a displacement on each side of the square, as in ipfvr.data.variation
_COLOUR, _GAMMA = 0.12, 0.15  # as in ipfvr.data.variation


def warp(frames: Tensor, matrices: Tensor, displacement: Tensor | None = None) -> Tensor:
    """Frames by similarities, and by displacements on top: bicubic, borders mirrored.

    Args:
        frames: (N, 3, S, S) float.
        matrices: (N, 2, 3), from pixels of a frame to those of the result.
        displacement: (N, 2, S, S) pixels of the result, x then y, away from which its pixels are taken; None: none.

    Returns:
        (N, 3, S, S).
    """
    size = frames.shape[-1]
    axis = torch.arange(size, device=frames.device, dtype=frames.dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([x, y]).expand(len(frames), -1, -1, -1)
    if displacement is not None:
        places = places + displacement
    back = torch.linalg.inv(matrices[:, :, :2]).to(frames)
    sources = torch.einsum("nij,njhw->nihw", back, places - matrices[:, :, 2, None, None].to(frames))
    grid = (2 * sources + 1) / size - 1
    return functional.grid_sample(frames, grid.permute(0, 2, 3, 1), "bicubic", "reflection", align_corners=False)


def similarities(count: int, size: int, spread: float, flip: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random zoom, turn, shift and flip about the centre, as :func:`ipfvr.data.faces.draw_augmentation` draws them.

    Returns:
        (N, 2, 3) float64 matrices on the processor, and (N,) bool, which of them mirror.
    """
    uniform = torch.rand(count, 4, generator=generator, dtype=torch.float64) * 2 - 1
    scale, angle, shift = 1 + spread * uniform[:, 0], spread * uniform[:, 1], spread * uniform[:, 2:] * size
    mirrored = (torch.rand(count, generator=generator) < 0.5) & flip
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], 1)
    linear[:, :, 0] *= torch.where(mirrored, -1.0, 1.0)[:, None]
    centre = (size - 1) / 2
    offset = centre + shift - linear.sum(2) * centre
    return torch.cat([linear, offset[:, :, None]], 2), mirrored


def displacements(count: int, size: int, spread: float | Tensor, device: torch.device | str) -> Tensor:
    """Smooth random fields, (N, 2, size, size) pixels; ``spread`` is a share of the side, one or (N,)."""
    knots = torch.randn(count, 2, _KNOTS, _KNOTS, device=device) * size
    knots = knots * torch.as_tensor(spread, device=device, dtype=knots.dtype).reshape(-1, 1, 1, 1)
    return functional.interpolate(knots, (size, size), mode="bicubic", align_corners=False)


def recolour(frames: Tensor) -> Tensor:
    """Frames (N, 3, S, S) in [-1, 1] with other gains and another gamma each, clipped."""
    count, like = len(frames), {"device": frames.device, "dtype": frames.dtype}
    gain = torch.exp(_COLOUR * (torch.randn(count, 1, 1, 1, **like) + 0.5 * torch.randn(count, 3, 1, 1, **like)))
    gamma = torch.exp(_GAMMA * torch.randn(count, 1, 1, 1, **like))
    # Near black a power below 1 is infinitely steep.
    return ((frames + 1) / 2 * gain).clamp(1e-4, 1) ** gamma * 2 - 1


def blur(frames: Tensor, sigma: Tensor) -> Tensor:
    """Each frame (N, 3, H, W) by a Gaussian of its own ``sigma`` (N,) pixels, cut at four of them, borders mirrored.

    The twin of :func:`ipfvr.degradation.pipeline.blur`; a sigma of 0 leaves its frame as it is.
    """
    sigma = sigma.to(frames)
    radius = max(1, math.ceil(4 * float(sigma.max())))
    place = torch.arange(-radius, radius + 1, device=frames.device, dtype=frames.dtype)
    inside = place.abs() <= (4 * sigma[:, None]).ceil()
    kernel = torch.exp(-0.5 * (place / sigma[:, None].clamp(min=1e-6)) ** 2) * inside
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(frames.shape[1], 0)
    image = frames.flatten(0, 1)[None]
    image = functional.pad(image, (radius, radius, 0, 0), mode="reflect")
    image = functional.conv2d(image, kernel[:, None, None, :], groups=len(kernel))
    image = functional.pad(image, (0, 0, radius, radius), mode="reflect")
    image = functional.conv2d(image, kernel[:, None, :, None], groups=len(kernel))
    return image[0].unflatten(0, frames.shape[:2])
