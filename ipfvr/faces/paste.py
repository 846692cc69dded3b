"""A restored square put back into its frame.

The square is warped back by the inverse of the transform that cut it out, and laid over the frame through a soft mask
that belongs to the square, not to the picture: it is the same in every frame, so nothing about it can jitter.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from ipfvr.faces.align import apply, enlarged, invert, scale_of, warp

_MIDDLE = (0.5, 0.53)  # of the square's side: between brow and chin of the template
_REACH = (0.41, 0.44)  # of the square's side: from there to where the mask is 0
_FEATHER = 0.35  # share of that reach over which the mask falls from 1 to 0
_POWER = 2.5  # 2: an ellipse; more: nearer to the square
_BLUR = 1 / 12  # of the square's side: standard deviation above which colours are the low-quality crop's
_COARSE = 32  # pixels of side at which that blur is done: what it keeps is far coarser, and the cost does not grow


@lru_cache(maxsize=4)
def blend_mask(size: int) -> np.ndarray:
    """How much of a restored square is shown: (size, size) float32, 1 in the middle, 0 well inside the border.

    The radius is that of a superellipse, ``(|x|^p + |y|^p)^(1/p)``, the fall a smooth step.
    """
    pixels = (np.arange(size) + 0.5) / size
    x, y = (np.abs(pixels - middle) / reach for middle, reach in zip(_MIDDLE, _REACH, strict=True))
    radius = (x[None] ** _POWER + y[:, None] ** _POWER) ** (1 / _POWER)
    t = np.clip((1 - radius) / _FEATHER, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def match_colours(restored: np.ndarray, low: np.ndarray) -> np.ndarray:
    """A restored square with the low-quality crop's colours: its low frequencies are replaced by the crop's.

    ``restored + G(low - restored)``, G a Gaussian of a twelfth of the side. At the mask's edge the square then differs
    from the frame in detail only, so there is no seam. It needs no memory of other frames: what flickers is what
    flickers in the source around it. Mean and spread per channel would be one number for a face with light from one
    side, and would give the restored face the spread of the noise.

    Args:
        restored: (size, size, 3) uint8.
        low: the same crop of the source, same shape.

    Returns:
        (size, size, 3) uint8.
    """
    difference = cv2.subtract(low, restored, dtype=cv2.CV_32F)
    coarse = cv2.resize(difference, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), _COARSE * _BLUR, borderType=cv2.BORDER_REFLECT_101)
    smooth = cv2.resize(coarse, restored.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.add(restored, smooth, dtype=cv2.CV_8U)


def paste(frame: np.ndarray, restored: np.ndarray, low: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Lay a restored square over its frame.

    Args:
        frame: (H, W, 3) uint8; not changed.
        restored: (size, size, 3) uint8.
        low: the crop it was made from, of the same size: gives the colours.
        matrix: (2, 3), from pixels of ``frame`` to pixels of the square.

    Returns:
        (H, W, 3) uint8; wherever the mask is 0 the pixels are the frame's.
    """
    size = restored.shape[0]
    corners = apply(invert(matrix), np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5)
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (frame.shape[1], frame.shape[0]))
    result = frame.copy()
    if left >= right or top >= bottom:
        return result
    # Only the face's box is touched: its transform is that of the frame, shifted.
    back = invert(matrix)
    back[:, 2] -= (left, top)
    extent = (int(right - left), int(bottom - top))
    face, mask = _laid_out(match_colours(restored, low), back, extent)
    # blendLinear divides by the sum of the weights plus 1e-5, and rounds: a weight of 0 leaves a pixel as it is.
    result[top:bottom, left:right] = cv2.blendLinear(face, result[top:bottom, left:right], mask, 1 - mask)
    return result


def _laid_out(square: np.ndarray, back: np.ndarray, extent: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A square and its mask where they lie in a box of ``extent`` (width, height) of the frame."""
    size, factor = square.shape[0], math.ceil(scale_of(back))
    if factor == 1:
        mask = warp(blend_mask(size), back, extent, cv2.BORDER_CONSTANT).clip(0, 1)
        return warp(square, back, extent, cv2.BORDER_REPLICATE), mask
    # Bicubic along the square's sides, where it is quick, bilinear from there: 48 dB and more from bicubic outright.
    large = cv2.resize(square, (size * factor, size * factor), interpolation=cv2.INTER_CUBIC)
    back = enlarged(back, factor)
    face = cv2.warpAffine(large, back, extent, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return face, cv2.warpAffine(blend_mask(size * factor), back, extent, flags=cv2.INTER_LINEAR)
