"""Distance to the ground truth, frame by frame: PSNR and SSIM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ipfvr.core.shapes import Float
from ipfvr.metrics.base import FrameMetric
from ipfvr.metrics.columns import labelled
from ipfvr.metrics.filters import gaussian_window

PSNR_LIMIT = 100.0
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K = (0.01, 0.03)


def psnr(prediction: Float[Tensor, "f 3 h w"], target: Float[Tensor, "f 3 h w"]) -> Float[Tensor, " f"]:
    """PSNR = 10 log10(1 / MSE), the error taken over the three channels of RGB.

    Args:
        prediction, target: (F, 3, H, W) in [0, 1].

    Returns:
        (F,) in dB. Equal frames, whose PSNR is infinite, count as 100 dB so that a mean stays a number.

    Examples:
        >>> psnr(torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 2, 2), 0.6)).round()
        tensor([20.], dtype=torch.float64)
    """
    mse = (prediction.double() - target.double()).square().flatten(1).mean(1)
    return (-10 * torch.log10(mse)).clamp(max=PSNR_LIMIT)


def ssim(prediction: Float[Tensor, "f 3 h w"], target: Float[Tensor, "f 3 h w"]) -> Float[Tensor, " f"]:
    """SSIM of Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5, K = (0.01, 0.03), mean over R, G and B.

    SSIM = (2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)), C = K^2 on the scale of [0, 1],
    averaged where the window is whole: the border of 5 pixels is left out, as in the authors' code and scikit-image.
    (torchmetrics mirrors the border and counts it.)

    Args:
        prediction, target: (F, 3, H, W) in [0, 1], at least 11 pixels on a side.

    Returns:
        (F,), at most 1.
    """
    # Frame by frame: the intermediate pictures of one frame stay in the processor's cache.
    return torch.stack([_ssim_frame(x, y) for x, y in zip(prediction.double(), target.double(), strict=True)])


def _ssim_frame(x: Tensor, y: Tensor) -> Tensor:
    moments = torch.stack([x, y, x * x, y * y, x * y])
    mean_x, mean_y, xx, yy, xy = gaussian_window(moments, SSIM_SIGMA, SSIM_WINDOW // 2)
    c1, c2 = (k**2 for k in SSIM_K)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    values = (2 * product + c1) * (2 * (xy - product) + c2) / ((squares + c1) * (xx + yy - squares + c2))
    return values.mean()


class PSNR(FrameMetric):
    """:func:`psnr`, mean over the frames of a clip, then over clips. ``update(prediction, target)``."""

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(labelled("psnr"), **kwargs)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return psnr(prediction, target)


class SSIM(FrameMetric):
    """:func:`ssim`, mean over the frames of a clip, then over clips. ``update(prediction, target)``."""

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(labelled("ssim"), **kwargs)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ssim(prediction, target)
