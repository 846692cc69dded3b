"""A sample face clip made from what installed packages carry: no download, no rights to clear.

The picture is the portrait of the astronaut Eileen Collins that comes with scikit-image (NASA, public domain).
A virtual camera moves over it, so that the clip has the motion of a hand-held recording and known sharp frames.
"""

from __future__ import annotations

import math

import numpy as np

from ipfvr.faces.align import crop, crop_matrix

# Five landmarks of the portrait in its own pixels: the eyes (image-left first), the nose, the corners of the mouth.
LANDMARKS = np.array([(203.4, 103.6), (247.5, 104.4), (224.1, 127.7), (204.0, 143.1), (242.9, 143.7)])
TURN = 5.0  # degrees of rotation to either side
ZOOM = 0.06  # share by which the camera comes nearer and goes away
PAN = 0.04  # share of the crop's side by which it moves


def portrait() -> np.ndarray:
    """Return the picture: (512, 512, 3) uint8 RGB."""
    from skimage.data import astronaut  # here: scikit-image is heavy, and only the demo needs it

    return astronaut()


def camera(frame: int, frames: int, size: int, start: float = 0.0) -> np.ndarray:
    """Return the camera at a frame: the similarity (2, 3) from the aligned crop to the frame, pixels of the crop.

    Rotation, zoom and both directions of panning are sines with periods that share no beat, so that no two frames
    show the face alike.

    Args:
        frame: which.
        frames: of the clip, over which the slowest sine takes its period.
        size: of the crop, pixels.
        start: of the sines, radians: another way.
    """
    phase = start + 2 * math.pi * frame / max(frames, 1)
    angle = math.radians(TURN) * math.sin(phase)
    zoom = 1 + ZOOM * math.sin(0.7 * phase + 1)
    shift = PAN * size * np.array([math.sin(1.3 * phase + 2), math.sin(0.9 * phase)])
    linear = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = np.full(2, (size - 1) / 2)
    return np.hstack([linear, (centre - linear @ centre + shift)[:, None]])


def sample_clip(frames: int, size: int) -> np.ndarray:
    """Make the sharp clip: (frames, size, size, 3) uint8 RGB; the face is aligned except for the camera's motion."""
    picture = portrait()
    aligned = np.vstack([crop_matrix(LANDMARKS, size), [0, 0, 1]])
    return np.stack([crop(picture, camera(i, frames, size) @ aligned, size) for i in range(frames)])
