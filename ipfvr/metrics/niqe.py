"""NIQE (Mittal, Soundararajan, Bovik: Making a 'completely blind' image quality analyzer, 2013).

The distance between two multivariate Gaussians over 36 features of image blocks: one fitted to pristine photographs
(the parameters are a file, registry entry ``niqe``), one fitted to the blocks of the picture at hand. Lower is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.metrics.base import FrameMetric
from ipfvr.metrics.columns import labelled
from ipfvr.metrics.filters import gaussian_window

SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # horizontal, vertical and the two diagonal neighbours


@dataclass(frozen=True)
class Blocks:
    """The blocks of a picture: ``size`` pixels on a side, one every ``stride`` pixels, both even."""

    size: int
    stride: int

    def __str__(self) -> str:
        overlap = "" if self.stride >= self.size else f", one every {self.stride} pixels"
        return f"{self.size} x {self.size} pixels{overlap}"


STANDARD = Blocks(96, 96)  # the paper's, for which the pristine parameters were fitted
SMALL = Blocks(32, 16)
SMALL_BELOW = 192  # pictures with a shorter side than this have fewer than 2 x 2 standard blocks


@dataclass(frozen=True)
class Pristine:
    """The Gaussian over the features of sharp photographs: ``mean`` (36,), ``covariance`` (36, 36), float64."""

    mean: Tensor
    covariance: Tensor


def load_pristine(path: str | Path) -> Pristine:
    """Read ``mu_pris_param`` and ``cov_pris_param`` of an npz file.

    Raises:
        UserError: the file is not such an npz.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            mean = torch.from_numpy(content["mu_pris_param"].astype(np.float64).reshape(36))
            covariance = torch.from_numpy(np.ascontiguousarray(content["cov_pris_param"], dtype=np.float64))
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} does not hold NIQE's pristine parameters: {error}; fetch it again") from None
    return Pristine(mean, covariance.reshape(36, 36))


def choose_blocks(height: int, width: int) -> Blocks:
    """Return the published 96-pixel tiling from 192 pixels on; half-overlapping blocks of 32 pixels below.

    A picture under 192 pixels has a single row or column of standard blocks, at 128 x 128 one block, of which no
    covariance can be taken. Of what remains, measured on 50 sharp faces at 128 x 128 and their degraded copies:
    overlapping 96-pixel blocks rank a slightly blurred (sigma 0.7) or half-resolution copy as worse in two cases of
    three, blocks of 32 pixels, 49 of them in such a picture, in 49 of 50. Values are lower than with the standard
    blocks (about 3.3 for sharp faces of 128 pixels): numbers of the two settings are not to be compared. Enlarging the
    picture instead would measure the interpolation's blur.
    """
    return STANDARD if min(height, width) >= SMALL_BELOW else SMALL


def luma(frames: Tensor) -> Tensor:
    """Grey levels 0.299 R + 0.587 G + 0.114 B, rounded, as the authors' code feeds them.

    Args:
        frames: (F, 3, H, W) in [0, 1].

    Returns:
        (F, 1, H, W) float64, whole numbers of 0..255.
    """
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=frames.device).view(1, 3, 1, 1)
    return (frames.double() * 255 * weights).sum(1, keepdim=True).round()


def mscn(grey: Tensor) -> Tensor:
    """Mean-subtracted contrast-normalised coefficients, (I - mu) / (sigma + 1) (Mittal et al., Eq. 1-3).

    mu and sigma are local, under a Gaussian window of 7 x 7 pixels with standard deviation 7/6; edges are repeated.

    Args:
        grey: (F, 1, H, W) in 0..255.
    """

    def blur(image: Tensor) -> Tensor:
        return gaussian_window(F.pad(image, (3, 3, 3, 3), mode="replicate"), 7 / 6, 3)

    mean = blur(grey)
    deviation = (blur(grey.square()) - mean.square()).abs().sqrt()
    return (grey - mean) / (deviation + 1)


@cache
def _aggd_table() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes alpha and Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)), sqrt(Gamma(1/a)/Gamma(3/a)), Gamma(2/a)/Gamma(1/a)."""
    alpha = torch.arange(200, 10001, dtype=torch.float64) / 1000
    g1, g2, g3 = (torch.lgamma(k / alpha) for k in (1, 2, 3))
    return alpha, torch.exp(2 * g2 - g1 - g3), torch.exp((g1 - g3) / 2), torch.exp(g2 - g1)


def fit_aggd(samples: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fit asymmetric generalised Gaussians by moments (Lasmar et al. 2009; Mittal et al., Eq. 7-9).

    With the deviations s_l, s_r of the negative and the positive samples, g = s_l / s_r and r = E|x|^2 / E x^2, the
    shape alpha solves Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) = r (g^3 + 1)(g + 1) / (g^2 + 1)^2, the scales are
    beta = s sqrt(Gamma(1/a) / Gamma(3/a)) and the mean eta = (beta_r - beta_l) Gamma(2/a) / Gamma(1/a).

    Args:
        samples: (..., n), float64.

    Returns:
        alpha (of 0.2..10, in steps of 0.001), beta_l, beta_r, eta, each (...); not finite where the samples are all
        zero or of one sign.
    """
    negative, positive = samples.clamp(max=0), samples.clamp(min=0)
    left = (negative.square().sum(-1) / (samples < 0).sum(-1)).sqrt()
    right = (positive.square().sum(-1) / (samples > 0).sum(-1)).sqrt()
    ratio = left / right
    r = samples.abs().mean(-1).square() / samples.square().mean(-1)
    target = r * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2

    shapes, table, scale, mean = (t.to(samples.device) for t in _aggd_table())
    above = torch.searchsorted(table, target.nan_to_num().contiguous()).clamp(1, len(table) - 1)
    nearest = torch.where(target - table[above - 1] < table[above] - target, above - 1, above)
    beta_l, beta_r = left * scale[nearest], right * scale[nearest]
    alpha = torch.where(target.isfinite(), shapes[nearest], torch.nan)
    return alpha, beta_l, beta_r, (beta_r - beta_l) * mean[nearest]


def block_features(blocks: Tensor) -> Tensor:
    """Return the 18 features of one scale (Mittal et al., section II-B).

    Shape and mean scale of the coefficients; then, of their products with the neighbour in four directions, shape,
    mean, left and right scale. Neighbours wrap around within a block, as in the authors' code.

    Args:
        blocks: (n, h, w) MSCN coefficients.

    Returns:
        (n, 18), float64.
    """
    alpha, beta_l, beta_r, _ = fit_aggd(blocks.flatten(1))
    features = [alpha, (beta_l + beta_r) / 2]
    for shift in SHIFTS:
        products = blocks * torch.roll(blocks, shift, dims=(1, 2))
        alpha, beta_l, beta_r, eta = fit_aggd(products.flatten(1))
        features += [alpha, eta, beta_l, beta_r]
    return torch.stack(features, dim=1)


def halve(image: Tensor) -> Tensor:
    """Half the size by antialiased bicubic interpolation with mirrored edges (MATLAB's ``imresize(image, 0.5)``).

    Args:
        image: (F, 1, H, W), even sizes.
    """
    height, width = image.shape[-2:]
    margin = 8  # more than the kernel's reach, even
    rows, columns = (
        torch.cat([torch.arange(margin - 1, -1, -1), torch.arange(n), torch.arange(n - 1, n - margin - 1, -1)])
        for n in (height, width)
    )
    padded = image[..., rows.to(image.device), :][..., columns.to(image.device)]
    size = (padded.shape[-2] // 2, padded.shape[-1] // 2)
    half = F.interpolate(padded, size=size, mode="bicubic", antialias=True)
    return half[..., margin // 2 : -(margin // 2), margin // 2 : -(margin // 2)]


def features(grey: Tensor, blocks: Blocks) -> Tensor:
    """Return the 36 features of each block of one picture, at full and at half size.

    Args:
        grey: (1, 1, H, W) in 0..255, both sides at least ``blocks.size``.
        blocks: how the picture is cut.

    Returns:
        (n, 36), float64; rows that are not finite come from blocks without texture.
    """
    # Whole blocks only, and the coefficients are taken after the cut, as in the authors' code.
    height, width = ((n - blocks.size) // blocks.stride * blocks.stride + blocks.size for n in grey.shape[-2:])
    image = grey[..., :height, :width]
    scales = []
    for divisor in (1, 2):
        size, stride = blocks.size // divisor, blocks.stride // divisor
        cut = mscn(image)[0, 0].unfold(0, size, stride).unfold(1, size, stride)
        scales.append(block_features(cut.reshape(-1, size, size)))
        image = halve(image) if divisor == 1 else image
    return torch.cat(scales, dim=1)


def distance(rows: Tensor, pristine: Pristine) -> Tensor:
    """NIQE = sqrt((m1 - m2)^T ((S1 + S2) / 2)^+ (m1 - m2)) (Mittal et al., Eq. 10).

    Args:
        rows: (n, 36) block features; rows that are not finite do not count.
        pristine: the Gaussian of sharp photographs.

    Returns:
        shape (); NaN with fewer than two blocks, of which no covariance can be taken.
    """
    rows = rows[rows.isfinite().all(1)]
    if len(rows) < 2:
        return rows.new_full((), torch.nan)
    gap = rows.mean(0) - pristine.mean.to(rows.device)
    covariance = (torch.cov(rows.T) + pristine.covariance.to(rows.device)) / 2
    return (gap @ torch.linalg.pinv(covariance, hermitian=True) @ gap).clamp(min=0).sqrt()


def niqe(frames: Tensor, pristine: Pristine, blocks: Blocks | None = None) -> Tensor:
    """NIQE of each frame, lower is better.

    Args:
        frames: (F, 3, H, W) in [0, 1].
        pristine: from :func:`load_pristine`.
        blocks: how frames are cut; None: :func:`choose_blocks`.

    Returns:
        (F,) float64; NaN for frames with fewer than two blocks, or without texture.
    """
    height, width = frames.shape[-2:]
    blocks = blocks or choose_blocks(height, width)
    if min(height, width) < blocks.size:
        return torch.full((len(frames),), torch.nan, dtype=torch.float64, device=frames.device)
    return torch.stack([distance(features(grey[None], blocks), pristine) for grey in luma(frames)])


class NIQE(FrameMetric):
    """:func:`niqe`, mean over the frames of a clip, then over clips. ``update(prediction)``.

    Args:
        pristine: from :func:`load_pristine`.
        parameters: the file's name and sha256, printed beside the number.
        licence: the file's licence.
    """

    higher_is_better = False

    def __init__(self, pristine: Pristine, parameters: str = "", licence: str = "", **kwargs: Any) -> None:
        super().__init__(labelled("niqe", parameters, licence), **kwargs)
        self.pristine = pristine

    def score(self, prediction: Tensor) -> Tensor:
        return niqe(prediction, self.pristine)
