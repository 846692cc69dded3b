"""The inner part of Eq. 13 for many clips at once, on their device; what is left of it, H.264, runs on processors.

The twins of :func:`ipfvr.degradation.pipeline.soften` and :mod:`ipfvr.degradation.faults`: the same numbers but for
the noise's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ipfvr.data.device.warps import blur
from ipfvr.degradation.pipeline import Parameters, bicubic_kernel

_TO_YCRCB = ((0.299, 0.587, 0.114), (0.5, -0.418688, -0.081312), (-0.168736, -0.331264, 0.5))


def soften_all(frames: Tensor, parameters: Sequence[Parameters | None], chroma: Sequence[float]) -> list[np.ndarray]:
    """``(hq (x) k_sigma + n_delta) down_r`` of each clip's first round.

    Args:
        frames: (B, F, 3, S, S) in [-1, 1].
        parameters: B; None: the clip stays as it is.
        chroma: B standard deviations of coloured noise that comes before, on the 0-255 scale; 0: none.

    Returns:
        B arrays (F, S // r, S // r, 3) uint8, in order.
    """
    result: list[np.ndarray] = [np.empty(0)] * len(frames)
    grey = (frames + 1) * 127.5
    groups: dict[tuple[int, str], list[int]] = {}
    for number, this in enumerate(parameters):
        first = this.rounds[0] if this is not None else None
        kind = (0, "") if first is None else (first.scale, first.resize if first.scale > 1 else "")
        groups.setdefault(kind, []).append(number)
    for (scale, resize), numbers in groups.items():
        if not scale:
            _place(result, numbers, grey[torch.tensor(numbers, device=frames.device)])
            continue
        rounds = [parameters[n].rounds[0] for n in numbers]
        device, count = frames.device, frames.shape[1]
        clips = grey[torch.tensor(numbers, device=device)]
        coloured = torch.tensor([chroma[n] for n in numbers], device=device)
        if any(chroma[n] for n in numbers):
            clips = with_coloured_noise(clips, coloured)
        sigma = torch.tensor([r.sigma for r in rounds], device=device).repeat_interleave(count)
        delta = torch.tensor([r.delta for r in rounds], device=device).reshape(-1, 1, 1, 1, 1)
        images = blur(clips.flatten(0, 1), sigma).unflatten(0, clips.shape[:2])
        images = images + delta * torch.randn_like(images)
        _place(result, numbers, downscale(images.flatten(0, 1), scale, resize).unflatten(0, (-1, count)))
    return result


def _place(result: list[np.ndarray], numbers: list[int], clips: Tensor) -> None:
    """Clips (N, F, 3, h, w), 0-255, as bytes on a processor, by one copy for all."""
    arrays = clips.round().clamp(0, 255).to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()
    for number, array in zip(numbers, arrays, strict=True):
        result[number] = array


def downscale(images: Tensor, scale: int, resize: str) -> Tensor:
    """``down_r``: (N, 3, H, W) to (N, 3, H // r, W // r), see :func:`ipfvr.degradation.pipeline.downscale`."""
    if scale == 1:
        return images
    height, width = images.shape[-2] // scale * scale, images.shape[-1] // scale * scale
    images = images[..., :height, :width]
    if resize == "area":
        return functional.avg_pool2d(images, scale)
    kernel = torch.from_numpy(bicubic_kernel(scale)).to(images)
    before = (len(kernel) - 1) // 2 - (scale - 1) // 2
    after = len(kernel) - scale - before
    images = images.flatten(0, 1)[:, None]
    for dim, shape in ((-1, (1, 1, 1, -1)), (-2, (1, 1, -1, 1))):
        images = _mirrored(images, before, after, dim)
        stride = (1, scale) if dim == -1 else (scale, 1)
        images = functional.conv2d(images, kernel.reshape(shape), stride=stride)
    return images[:, 0].unflatten(0, (-1, 3))


def with_coloured_noise(clips: Tensor, spread: Tensor) -> Tensor:
    """Clips (B, F, 3, H, W), 0-255, with coarse noise of ``spread`` (B,) in Cb and Cr; luma is left as it is."""
    back = torch.linalg.inv(torch.tensor(_TO_YCRCB)).to(clips.device)
    shape = clips.shape
    grain = torch.randn(shape[0] * shape[1], 2, shape[3] // 4, shape[4] // 4, device=clips.device)
    noise = functional.interpolate(grain, shape[3:], mode="bicubic", align_corners=False).unflatten(0, shape[:2])
    noise = noise * spread.reshape(-1, 1, 1, 1, 1)
    added = torch.cat([torch.zeros_like(noise[:, :, :1]), noise], 2)
    return clips + torch.einsum("ij,bfjhw->bfihw", back, added)


def _mirrored(images: Tensor, before: int, after: int, dim: int) -> Tensor:
    """Borders mirrored with their edge repeated, as OpenCV's BORDER_REFLECT."""
    size = images.shape[dim]
    place = torch.arange(-before, size + after, device=images.device)
    place = torch.where(place < 0, -1 - place, place)
    place = torch.where(place >= size, 2 * size - 1 - place, place)
    return images.index_select(dim, place)
