"""A restored square put back into its frame.

The square is warped back by the inverse of the transform that cut it out, and laid over the frame through a soft mask
that belongs to the square, not to the picture: it is the same in every frame, so nothing about it can jitter.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from ipfvr.faces.align import apply, invert, warp

_MIDDLE = (0.5, 0.53)  # of the square's side: between brow and chin of the template
_REACH = (0.41, 0.44)  # of the square's side: from there to where the mask is 0
_FEATHER = 0.35  # share of that reach over which the mask falls from 1 to 0
_POWER = 2.5  # 2: an ellipse; more: nearer to the square
_BLUR = 1 / 12  # of the square's side: standard deviation above which colours are the low-quality crop's


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
    smooth = cv2.GaussianBlur(difference, (0, 0), restored.shape[0] * _BLUR, borderType=cv2.BORDER_REFLECT_101)
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
    face = warp(match_colours(restored, low), back, extent, cv2.BORDER_REPLICATE)
    mask = warp(blend_mask(size), back, extent, cv2.BORDER_CONSTANT).clip(0, 1)
    # blendLinear divides by the sum of the weights plus 1e-5, and rounds: a weight of 0 leaves a pixel as it is.
    result[top:bottom, left:right] = cv2.blendLinear(face, result[top:bottom, left:right], mask, 1 - mask)
    return result


def enlarged(matrix: np.ndarray, factor: int) -> np.ndarray:
    """The transform to the square from a frame that was made ``factor`` times larger."""
    matrix = np.array(matrix, dtype=np.float64)
    # Pixel p of the frame becomes pixel factor p + (factor - 1) / 2.
    matrix[:, 2] -= matrix[:, :2] @ np.full(2, (factor - 1) / 2) / factor
    matrix[:, :2] /= factor
    return matrix
