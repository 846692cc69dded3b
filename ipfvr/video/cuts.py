"""Detecting the cuts between shots."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

_SIZE = (48, 27)  # frames are compared at this size: what moves a little differs little
_SAMPLED = (320, 180)  # pixels of a frame that are looked at, so many across and down
_LEAST = 10.0  # mean difference of 255 below which nothing is a cut
_RATIO = 3.0  # a cut differs so many times more than frames of its shot usually do
_CERTAIN = 24.0  # with no frames to compare with (the second of a shot), a cut differs at least so much
_MEMORY = 8  # neighbouring pairs of frames that say what is usual


class CutDetector:
    """Finds cuts frame by frame, looking back only, at constant memory.

    A frame begins a new shot when its thumbnail differs from the one before by much more than the shot's frames
    have done so far. It errs on the side of a cut: a flash is taken for two, which costs a clip's border; a missed one
    would mix two shots.
    """

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._usual: deque[float] = deque(maxlen=_MEMORY)

    def is_cut(self, image: np.ndarray) -> bool:
        """Return whether the next frame, (H, W, 3) uint8, begins a new shot; the first frame does not."""
        # Every few pixels of a large frame are enough, and a fraction of the time.
        if image.shape[0] > _SAMPLED[1] and image.shape[1] > _SAMPLED[0]:
            image = cv2.resize(image, _SAMPLED, interpolation=cv2.INTER_NEAREST)
        small = cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._before = self._before, small
        if before is None:
            return False
        difference = float(np.abs(small - before).mean())
        bound = max(_LEAST, _RATIO * float(np.median(self._usual))) if self._usual else _CERTAIN
        if difference > bound:
            self._usual.clear()
            return True
        self._usual.append(difference)
        return False
