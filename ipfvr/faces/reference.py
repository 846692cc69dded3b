"""The aligned crop of a reference picture's face: the only function that makes crops of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ipfvr.core.pixels import resize_frame
from ipfvr.faces.align import crop, crop_matrix, face_template
from ipfvr.faces.detect import Detector
from ipfvr.faces.recognise import reference_face
from ipfvr.video.reader import read_image

ALIGNED = 0.03  # share of the side by which an aligned crop's landmarks may lie beside the template's


def reference_crop(path: Path, detector: Detector, size: int, choose: int = 0) -> np.ndarray:
    """Return the aligned crop (size, size, 3) uint8 of a reference picture's face.

    Args:
        path: the picture.
        detector: what finds faces.
        size: side of the crop, pixels.
        choose: which face is meant, counted from the left, from 1; 0: there must be only one.

    Raises:
        UserError: a picture that cannot be read; else as :func:`ipfvr.faces.recognise.reference_face`.
    """
    return _cropped(read_image(path), detector, size, choose, path)


def aligned_reference(image: np.ndarray, detector: Detector, size: int, name: Path) -> np.ndarray:
    """Return a reference picture as the aligned crop (size, size, 3) uint8.

    A square picture is taken for an aligned crop, and only resized, where its face's landmarks lie on the template or
    no face is found in it; any other is cropped about its face.

    Args:
        image: (H, W, 3) uint8 RGB.
        detector: what finds faces.
        size: side of the crop, pixels.
        name: what errors call it.

    Raises:
        UserError: not square, and without one clear face.
    """
    height, width = image.shape[:2]
    if height == width:
        faces = detector.detect(image)
        beside = [np.abs(face.landmarks - face_template(width)).max() / width for face in faces]
        if not faces or min(beside) <= ALIGNED:
            return resize_frame(image, size, size)
    return _cropped(image, detector, size, 0, name)


def middle_square(image: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture (H, W, 3) uint8, resized to (size, size, 3), for references without alignment."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize_frame(image[top : top + side, left : left + side], size, size)


def _cropped(image: np.ndarray, detector: Detector, size: int, choose: int, name: Path) -> np.ndarray:
    found = reference_face(image, detector, choose or None, name)
    return crop(image, crop_matrix(found.landmarks, size), size)
