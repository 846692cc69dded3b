"""The Gaussian window of SSIM and NIQE."""

from __future__ import annotations

import math

from torch import Tensor

from ipfvr.core.shapes import Float


def gaussian_window(
    images: Float[Tensor, "*n h w"], sigma: float, radius: int
) -> Float[Tensor, "*n h-2*{radius} w-2*{radius}"]:
    """Local means under a Gaussian of 2 radius + 1 taps a side, where the window is whole.

    Sums of shifted pictures: in float64 on a CPU many times faster than torch's convolution.

    Args:
        images: (..., H, W), both sides larger than 2 radius.
        sigma: standard deviation, pixels.
        radius: taps on each side of the centre.

    Returns:
        (..., H - 2 radius, W - 2 radius).
    """
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-radius, radius + 1)]
    weights = [weight / sum(weights) for weight in weights]
    for axis in (-2, -1):
        length = images.shape[axis] - 2 * radius
        blurred = images.narrow(axis, 0, length) * weights[0]
        for i, weight in enumerate(weights[1:], start=1):
            blurred.add_(images.narrow(axis, i, length), alpha=weight)
        images = blurred
    return images
