"""Adding the network's change in a face's square to the frame's own pixels.

The change is warped by the inverse of the transform that cut the square out, and fades towards the border by a soft
mask that belongs to the square, not to the picture: the mask is the same in every frame, so it cannot jitter. The
frame itself is never resampled, so detail that is too fine for the square stays.
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
_BLUR = 1 / 12  # of the square's side: standard deviation above which colours are the source's
_COARSE = 32  # pixels of side at which that blur is done: what it keeps is far coarser, and the cost does not grow


@lru_cache(maxsize=4)
def blend_mask(size: int) -> np.ndarray:
    """Return the weight of a change at each place: (size, size) float32, 1 in the middle, 0 well inside the border.

    The radius is that of a superellipse, ``(|x|^p + |y|^p)^(1/p)``, the fall a smooth step.
    """
    pixels = (np.arange(size) + 0.5) / size
    x, y = (np.abs(pixels - middle) / reach for middle, reach in zip(_MIDDLE, _REACH, strict=True))
    radius = (x[None] ** _POWER + y[:, None] ** _POWER) ** (1 / _POWER)
    t = np.clip((1 - radius) / _FEATHER, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def change_of(restored: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return the network's change of the low-quality crop, without the change of its colours.

    ``c - G(c)`` with ``c = restored - low``, G a Gaussian of a twelfth of the side: at the mask's edge the face then
    differs from the frame in detail only, so there is no seam. It needs no memory of other frames: what flickers is
    what flickers in the source around it. Mean and spread per channel would be one number for a face with light from
    one side, and would give the restored face the spread of the noise.

    Args:
        restored: (size, size, 3) uint8.
        low: the same crop of the source, same shape.

    Returns:
        (size, size, 3) float32, grey levels.
    """
    change = cv2.subtract(restored, low, dtype=cv2.CV_32F)
    coarse = cv2.resize(change, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), _COARSE * _BLUR, borderType=cv2.BORDER_REFLECT_101)
    return change - cv2.resize(coarse, change.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def paste(
    frame: np.ndarray, restored: np.ndarray, low: np.ndarray, matrix: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """Add the network's change to a frame: ``frame + strength * warp(mask * change_of(restored, low))``.

    Args:
        frame: (H, W, 3) uint8; not changed.
        restored: (size, size, 3) uint8.
        low: the crop of the frame that it was made from, of the same size.
        matrix: (2, 3), from pixels of ``frame`` to pixels of the square.
        strength: 0 (the frame as it is) to 1.

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
    # The mask is smooth: it is as good before the enlargement as after it, and cheaper.
    change = change_of(restored, low) * (strength * blend_mask(size))[..., None]
    box = result[top:bottom, left:right]
    cv2.add(box, _place_in_box(change, back, (int(right - left), int(bottom - top))), dst=box, dtype=cv2.CV_8U)
    return result


def _place_in_box(square: np.ndarray, back: np.ndarray, extent: tuple[int, int]) -> np.ndarray:
    """Place a square in a box of ``extent`` (width, height) of the frame, 0 around it."""
    size, factor = square.shape[0], math.ceil(scale_of(back))
    if factor == 1:
        return warp(square, back, extent, cv2.BORDER_CONSTANT)
    # Bicubic along the square's sides, where it is quick, bilinear from there: 48 dB and more from bicubic outright.
    large = cv2.resize(square, (size * factor, size * factor), interpolation=cv2.INTER_CUBIC)
    return cv2.warpAffine(large, enlarged(back, factor), extent, flags=cv2.INTER_LINEAR)
