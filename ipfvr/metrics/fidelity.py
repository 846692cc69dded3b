"""Distance to the ground truth, frame by frame: PSNR and SSIM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from ipfvr.metrics.base import FrameMetric, MetricInfo

PSNR_LIMIT = 100.0
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """PSNR = 10 log10(1 / MSE), the error taken over the three channels of RGB.

    Args:
        prediction, target: (F, 3, H, W) in [0, 1].

    Returns:
        (F,) in dB. Equal frames, whose PSNR is infinite, count as 100 dB so that a mean stays a number.
    """
    mse = (prediction.double() - target.double()).square().flatten(1).mean(1)
    return (-10 * torch.log10(mse)).clamp(max=PSNR_LIMIT)


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM of Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5, K = (0.01, 0.03), mean over R, G and B.

    The border of 5 pixels, where the window is not whole, is left out.

    Args:
        prediction, target: (F, 3, H, W) in [0, 1], at least 11 pixels on a side.

    Returns:
        (F,), at most 1.
    """
    _, values = structural_similarity_index_measure(
        prediction.double(),
        target.double(),
        gaussian_kernel=True,
        sigma=SSIM_SIGMA,
        kernel_size=SSIM_WINDOW,
        reduction="none",
        data_range=1.0,
        return_full_image=True,
    )
    # torchmetrics mirrors the border and averages over it too; the authors' code and scikit-image do not.
    margin = SSIM_WINDOW // 2
    return values[..., margin:-margin, margin:-margin].flatten(1).mean(1)


class PSNR(FrameMetric):
    """:func:`psnr`, mean over the frames of a clip, then over clips. ``update(prediction, target)``."""

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        info = MetricInfo("psnr", "PSNR", True, 0.0, PSNR_LIMIT, "dB", 2, "10 log10(1 / MSE)")
        super().__init__(info, **kwargs)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return psnr(prediction, target)


class SSIM(FrameMetric):
    """:func:`ssim`, mean over the frames of a clip, then over clips. ``update(prediction, target)``."""

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(MetricInfo("ssim", "SSIM", True, -1.0, 1.0, "", 4, "Wang et al. 2004"), **kwargs)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ssim(prediction, target)
