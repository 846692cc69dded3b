"""Faces in one image: boxes, scores and five landmarks.

Two detectors with one interface: YuNet through OpenCV, when its file is there, and OpenCV's own
cascades with this project's landmark network, which need no file that is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ipfvr.catalogue import ENTRIES
from ipfvr.errors import UserError
from ipfvr.faces.align import apply, scale_of, similarity_transform
from ipfvr.faces.landmarks import LandmarkModel, landmark_box, load_landmarks
from ipfvr.options import FacesConfig
from ipfvr.registry import find, locate

_NMS_THRESHOLD = 0.3
_CASCADE_STEP = 1.15  # factor between the sizes that the cascade looks for
_CASCADE_NEIGHBOURS = 2  # windows that must agree; the network sorts out what is wrong
_REFINER_CERTAIN = 0.5  # probability of a face from which the network's points are trusted
_MIN_FACE = 24  # pixels of the shrunken image
_MIN_SHARE = 1 / 20  # of the shrunken image's longer side


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the image it was found in.

    Attributes:
        box: (x, y, w, h) float32; x, y is the top-left corner and may lie outside the image.
        score: confidence in [0, 1].
        landmarks: (5, 2) float32: image-left eye, image-right eye, nose tip, image-left mouth corner,
            image-right mouth corner.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        """Pixels the box covers."""
        return float(self.box[2] * self.box[3])


class Detector(Protocol):
    """What finds faces."""

    name: str
    weights: dict[str, Path]  # the files it was made from, for provenance

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces of a uint8 RGB (H, W, 3) image, best (large and certain) first; an empty list if none."""
        ...

    def follow(self, image: np.ndarray, face: Face) -> Face | None:
        """A face of another frame a moment apart, looked for where it was; None where that is not certain."""
        ...


def make_detector(config: FacesConfig) -> Detector:
    """The detector that a configuration names.

    ``auto`` takes YuNet where its file is there and the cascade where it is not.

    Raises:
        UserError: an unknown name, or ``yunet`` without its file.
    """
    if config.detector not in ("auto", "yunet", "cascade"):
        raise UserError(f"faces.detector={config.detector} is not known; use auto, yunet or cascade")
    if config.detector == "cascade" or (config.detector == "auto" and find(ENTRIES["yunet"]) is None):
        return CascadeDetector(config)
    return YuNetDetector(locate("yunet"), config)


class YuNetDetector:
    """YuNet (Apache-2.0) through OpenCV's ``FaceDetectorYN``.

    Its points scatter by several percent of the eyes' distance, more where the face is degraded; with
    ``faces.refine`` the landmark network that is shipped with mini looks again, and its points are taken where it
    sees a face (turned far away it may not).
    """

    name = "yunet"

    def __init__(self, path: Path, config: FacesConfig) -> None:
        self.weights = {"yunet": path}
        self._refiner: LandmarkModel | None = None
        if config.refine:
            self._refiner = load_landmarks(locate("mini/landmarks"))
            self.weights["landmarks"] = self._refiner.path
        self._max_side = config.max_side
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(
            cv2.utils.logging.LOG_LEVEL_SILENT
        )  # OpenCV would print lines of its own beside the one that is raised here
        try:
            self._net = cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), config.min_confidence, _NMS_THRESHOLD, 5000
            )
        except cv2.error:
            raise UserError(f"{path} cannot be read as a YuNet network; fetch the file again") from None
        finally:
            cv2.utils.logging.setLogLevel(level)

    def detect(self, image: np.ndarray) -> list[Face]:
        """See :class:`Detector`. YuNet's order, subject's right eye first, is image-left eye first."""
        small, scale = shrink(image, self._max_side)
        self._net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        faces = []
        for row in rows if rows is not None else []:
            box = np.concatenate([_unshrink(row[:2], scale), row[2:4] / scale])
            points = _unshrink(row[4:14].reshape(5, 2), scale)
            if np.isfinite(row).all() and (row[2:4] > 0).all():
                points = self._refine(image, points)
                faces.append(Face(box.astype(np.float32), float(row[14]), points.astype(np.float32)))
        return best_first(faces)

    def follow(self, image: np.ndarray, face: Face) -> Face | None:
        """See :class:`Detector`."""
        return None if self._refiner is None else _follow(self._refiner, image, face)

    def _refine(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        if self._refiner is None:
            return points
        better, score = self._refiner.refine(image, points)
        return better if score >= _REFINER_CERTAIN else points


class CascadeDetector:
    """OpenCV's frontal cascade proposes squares; the landmark network that is shipped with mini finds the points.

    The network also judges: a square in which it sees no face is dropped, so the cascade can be eager.
    """

    name = "cascade"

    def __init__(self, config: FacesConfig, weights: Path | None = None) -> None:
        path = locate("mini/landmarks") if weights is None else weights
        self.weights = {"landmarks": path}
        self._max_side = config.max_side
        self._min_confidence = config.min_confidence
        self._model = load_landmarks(path)
        self._cascade = open_cascade()

    def detect(self, image: np.ndarray) -> list[Face]:
        """See :class:`Detector`. Boxes are the cascade's kind, brow to chin, square, about the points found."""
        small, scale = shrink(image, self._max_side)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        if min(grey.shape) < _MIN_FACE:
            return []
        least = max(_MIN_FACE, round(max(grey.shape) * _MIN_SHARE))
        faces: list[Face] = []
        for square in self._cascade.detectMultiScale(grey, _CASCADE_STEP, _CASCADE_NEIGHBOURS, minSize=(least, least)):
            corner = _unshrink(square[:2], scale)
            points, score = self._model.locate(image, np.concatenate([corner, square[2:] / scale]))
            if score >= self._min_confidence:
                faces.append(Face(landmark_box(points).astype(np.float32), score, points))
        return best_first(_distinct(faces))

    def follow(self, image: np.ndarray, face: Face) -> Face | None:
        """See :class:`Detector`."""
        return _follow(self._model, image, face)


def _follow(model: LandmarkModel, image: np.ndarray, face: Face) -> Face | None:
    """By two looks of the landmark network, the second where the first has found it; the box moves with the points."""
    points, score = model.refine(image, face.landmarks)
    if score >= _REFINER_CERTAIN:
        points, second = model.refine(image, points)
        score = min(score, second)
    if score < _REFINER_CERTAIN:
        return None
    move = similarity_transform(face.landmarks, points)
    middle, side = apply(move, face.box[:2] + face.box[2:] / 2), face.box[2:] * scale_of(move)
    return Face(np.concatenate([middle - side / 2, side]).astype(np.float32), face.score, points)


def open_cascade() -> cv2.CascadeClassifier:
    """The frontal face cascade that is part of OpenCV 4.

    Raises:
        UserError: an OpenCV without cascades (5 and later).
    """
    if not hasattr(cv2, "CascadeClassifier"):
        raise UserError("this OpenCV has no cascades: pip install 'opencv-python-headless<5'")
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_alt2.xml"))


def _distinct(faces: list[Face]) -> list[Face]:
    """Without the less certain of any two faces that overlap."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(box_overlap(face.box, other.box) < _NMS_THRESHOLD for other in kept):
            kept.append(face)
    return kept


def best_first(faces: list[Face]) -> list[Face]:
    """Sort by score times area."""
    return sorted(faces, key=lambda face: face.score * face.area, reverse=True)


def shrink(image: np.ndarray, max_side: int) -> tuple[np.ndarray, np.ndarray]:
    """An image no larger than ``max_side`` and the (2,) scale x, y that it was shrunk by (at most 1)."""
    height, width = image.shape[:2]
    ratio = min(1.0, max_side / max(height, width))
    if ratio == 1:
        return image, np.ones(2)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.array([size[0] / width, size[1] / height])


def _unshrink(points: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Points of the shrunken image in pixels of the whole one; pixel centres are at whole numbers."""
    return (points + 0.5) / scale - 0.5


def box_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x, y, w, h)."""
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    union = float(a[2] * a[3] + b[2] * b[3]) - shared
    return shared / union if union > 0 else 0.0
