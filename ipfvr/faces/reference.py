"""A reference picture as the aligned crop of its face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ipfvr.faces.align import crop, crop_matrix
from ipfvr.faces.detect import Detector
from ipfvr.faces.recognise import reference_face
from ipfvr.video.reader import read_image


def reference_crop(path: Path, detector: Detector, size: int, choose: int = 0) -> np.ndarray:
    """The aligned crop (size, size, 3) uint8 of a reference picture's face.

    Args:
        path: the picture.
        detector: what finds faces.
        size: side of the crop, pixels.
        choose: which face is meant, counted from the left, from 1; 0: there must be only one.

    Raises:
        UserError: a picture that cannot be read; else as :func:`ipfvr.faces.recognise.reference_face`.
    """
    image = read_image(path)
    found = reference_face(image, detector, choose or None, path)
    return crop(image, crop_matrix(found.landmarks, size), size)
