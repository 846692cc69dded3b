"""Pictures that show versions of the same frames side by side, with their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

LABEL_HEIGHT = 26  # pixels of the band that holds a name
BACKGROUND = (24, 24, 24)
INK = (235, 235, 235)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def side_by_side(frames: Mapping[str, np.ndarray], side: int) -> np.ndarray:
    """Return one frame of several versions, left to right, with their names above.

    Args:
        frames: name to (H, W, 3) uint8 RGB; sizes may differ.
        side: width and height each one is shown at, pixels.

    Returns:
        (side + LABEL_HEIGHT, side * versions, 3) uint8 RGB.
    """
    tiles = [np.concatenate([label(name, side), show(image, side)]) for name, image in frames.items()]
    return np.concatenate(tiles, axis=1)


def strip(clips: Mapping[str, np.ndarray], indices: Sequence[int], side: int) -> np.ndarray:
    """Return a picture: one row for each version, one column for each frame index, names on the left.

    Args:
        clips: name to (F, H, W, 3) uint8 RGB.
        indices: which frames.
        side: width and height of a tile, pixels.
    """
    rows = []
    for name, frames in clips.items():
        # Turned, so that a name takes as little room as it does above a video.
        margin = cv2.rotate(label(name, side), cv2.ROTATE_90_COUNTERCLOCKWISE)
        rows.append(np.concatenate([margin, *(show(frames[i], side) for i in indices)], axis=1))
    return np.concatenate(rows)


def show(image: np.ndarray, side: int) -> np.ndarray:
    """An image at ``side`` x ``side``: whole enlargements keep its pixels as squares, so nothing is smoothed over."""
    whole = side % image.shape[0] == 0 and side % image.shape[1] == 0
    smaller = image.shape[0] > side
    kind = cv2.INTER_NEAREST if whole else cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(image, (side, side), interpolation=kind)


def label(text: str, width: int) -> np.ndarray:
    """Return a band (LABEL_HEIGHT, width, 3) with ``text`` in its middle, shrunk to fit."""
    band = np.full((LABEL_HEIGHT, width, 3), BACKGROUND, dtype=np.uint8)
    (text_width, text_height), _ = cv2.getTextSize(text, FONT, 0.5, 1)
    scale = 0.5 * min(1.0, (width - 8) / max(text_width, 1))
    (text_width, text_height), _ = cv2.getTextSize(text, FONT, scale, 1)
    origin = ((width - text_width) // 2, (LABEL_HEIGHT + text_height) // 2)
    cv2.putText(band, text, origin, FONT, scale, INK, 1, cv2.LINE_AA)
    return band
