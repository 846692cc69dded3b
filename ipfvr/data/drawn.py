"""Three sample people for a user without data: the portrait, and two drawn after it with other proportions.

Packages carry one portrait that is free of rights. The two others are it, wider or narrower in places, mirrored, in
other colours: recognisers take them for somebody else, and nobody exists who looks like them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from ipfvr.data.sample import LANDMARKS, camera, portrait
from ipfvr.data.variation import move_face
from ipfvr.faces.align import crop, crop_matrix

# Rows of the portrait, pixels: crown, brow, eyes, nose, mouth, chin, collar.
_ROWS = (40.0, 75.0, 104.0, 128.0, 143.0, 175.0, 215.0)
_MIDDLE, _REACH = 225.0, 95.0  # the face's axis, and how far beside it the picture changes, pixels
_SOFT = 7.0  # standard deviation, rows, for smoothing the widths at :data:`_ROWS`
_BEND = 0.006  # of the test scene's face, as a share of the side


@dataclass(frozen=True)
class Sitter:
    """A person in front of the sample's camera.

    Attributes:
        name: of the person's folder.
        widths: by how much the face is wider at each of :data:`_ROWS`; 0.1: by a tenth.
        lower: by how many pixels it lies lower there.
        gains: of red, green and blue.
        gamma: of all three.
        mirrored: left is right.
    """

    name: str
    widths: tuple[float, ...] = (0.0,) * 7
    lower: tuple[float, ...] = (0.0,) * 7
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    mirrored: bool = False

    @cached_property
    def picture(self) -> np.ndarray:
        """The portrait: (512, 512, 3) uint8 RGB."""
        picture = portrait()
        if any(self.widths) or any(self.lower):
            rows, columns = np.mgrid[: len(picture), : len(picture)].astype(np.float32)
            there = np.stack([columns, rows], axis=-1) - self._shift(columns, rows)
            picture = cv2.remap(picture, there, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        picture = relit(picture, self.gains, self.gamma)
        return np.ascontiguousarray(picture[:, ::-1]) if self.mirrored else picture

    @cached_property
    def landmarks(self) -> np.ndarray:
        """Five points of :attr:`picture`, (5, 2) pixels, as :data:`ipfvr.data.sample.LANDMARKS`."""
        points = LANDMARKS.copy()
        for _ in range(20):  # where the pixel at a point comes from the portrait's landmark
            points = LANDMARKS + self._shift(*points.T)
        if self.mirrored:
            points[:, 0] = portrait().shape[1] - 1 - points[:, 0]
            points = points[[1, 0, 2, 4, 3]]
        return points

    def _shift(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the displacement of the content at each point, (..., 2) float32 pixels."""
        every = np.arange(512.0)
        borders = np.stack([np.interp(every, _ROWS, self.widths), np.interp(every, _ROWS, self.lower)])
        wide, low = (np.interp(y, every, cv2.GaussianBlur(line[None], (0, 0), _SOFT)[0]) for line in borders)
        fade = np.exp(-(((x - _MIDDLE) / _REACH) ** 4))
        return np.stack([(x - _MIDDLE) * wide * fade, low * fade], axis=-1).astype(np.float32)


ASTRONAUT = Sitter("astronaut")
WIDE = Sitter(
    "drawn_wide",
    widths=(0, 0.15, 0.25, 0.2, 0.3, 0.35, 0),
    lower=(0, -6, -4, -5, -6, -8, 0),
    gains=(0.9, 0.85, 0.85),
    gamma=0.9,
    mirrored=True,
)
NARROW = Sitter(
    "drawn_narrow",
    widths=(0, -0.15, -0.22, -0.2, -0.15, -0.2, 0),
    lower=(0, -6, -8, -2, 4, 12, 0),
    gains=(1.0, 0.93, 0.9),
    gamma=1.1,
)
SITTERS = (ASTRONAUT, WIDE, NARROW)


def film(sitter: Sitter, frames: int, size: int, later: bool = False) -> np.ndarray:
    """Film a scene of a person, (frames, size, size, 3) uint8 RGB: a camera moves over the portrait.

    Args:
        sitter: who.
        frames: how many.
        size: side, pixels.
        later: of another moment: the camera goes another way, the face bends, and the light is another.
    """
    aligned = np.vstack([crop_matrix(sitter.landmarks, size), [0, 0, 1]])
    way = [camera(i, frames, size, 2.0 if later else 0.0) for i in range(frames)]
    clip = np.stack([crop(sitter.picture, step @ aligned, size) for step in way])
    if not later:
        return clip
    return relit(move_face(clip, _BEND, np.random.default_rng(0)), (0.86, 0.92, 1.05), 1.15)


def relit(pictures: np.ndarray, gains: tuple[float, float, float], gamma: float) -> np.ndarray:
    """Pictures (..., 3) uint8 RGB in another light."""
    return np.rint(255 * (pictures / 255 * np.array(gains)).clip(0, 1) ** gamma).astype(np.uint8)
