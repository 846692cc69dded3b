"""Faces in one image: boxes, scores and five landmarks.

Detectors with one interface: YuNet, when its file is there, CenterFace, whose weights are shipped with mini, and
insightface's, on request (:mod:`ipfvr.faces.face_analysis`).
``docs/measurements.md`` compares them with others that were tried.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ipfvr.core.choices import Detectors
from ipfvr.core.errors import UserError
from ipfvr.core.options import FacesConfig
from ipfvr.faces.align import apply, scale_of, similarity_transform
from ipfvr.faces.centerface import detect_faces, load_centerface
from ipfvr.faces.landmarks import LandmarkModel, load_landmarks
from ipfvr.weights.needs import detector_name
from ipfvr.weights.registry import locate

_NMS_THRESHOLD = 0.3
_REFINER_CERTAIN = 0.5  # probability of a face from which the network's points are trusted


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
    """The interface of face detectors."""

    name: str
    weights: dict[str, Path]  # the files it was made from, for provenance

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces of a uint8 RGB (H, W, 3) image, best (large and certain) first; an empty list if none."""
        ...

    def follow(self, image: np.ndarray, face: Face) -> Face | None:
        """Find a face again near its place in another frame a moment apart; None: the result is not certain."""
        ...


def make_detector(config: FacesConfig) -> Detector:
    """Return the detector that a configuration names.

    ``auto`` takes YuNet where its file is there and CenterFace where it is not.

    Raises:
        UserError: ``yunet`` or ``insightface`` without its files or package.
    """
    if Detectors(config.detector) == Detectors.insightface:
        # Imported here: the package is heavy, and its packs' licence is restrictive.
        from ipfvr.faces.face_analysis import InsightFaceDetector

        return InsightFaceDetector(locate(detector_name(config)), config)
    if detector_name(config) == "mini/centerface":
        return CenterFaceDetector(config)
    return YuNetDetector(locate("yunet"), config)


class NetworkDetector(ABC):
    """A network that finds faces in the shrunken image; with ``faces.refine`` the landmark network looks again.

    A detector's points scatter by several percent of the eyes' distance, more where the face is degraded; the landmark
    network's are taken where it sees a face (turned far away it may not).
    """

    name: str
    share = 1.0  # of faces.max_side, the side of what it looks at

    def __init__(self, weights: Path, config: FacesConfig) -> None:
        self.weights = {self.name: weights}
        self._refiner: LandmarkModel | None = None
        if config.refine:
            self._refiner = load_landmarks(locate("mini/landmarks"))
            self.weights["landmarks"] = self._refiner.path
        self._max_side = round(self.share * config.max_side)
        self._min_confidence = config.min_confidence

    @abstractmethod
    def _search(self, small: np.ndarray) -> np.ndarray:
        """Faces of an RGB image: (K, 15) float32, x, y, w, h, five landmarks x, y, score; image-left eye first."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """See :class:`Detector`."""
        small, scale = shrink(image, self._max_side)
        faces = []
        for row in self._search(small):
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


class YuNetDetector(NetworkDetector):
    """YuNet (Apache-2.0) through OpenCV's ``FaceDetectorYN``."""

    name = "yunet"

    def __init__(self, path: Path, config: FacesConfig) -> None:
        super().__init__(path, config)
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

    def _search(self, small: np.ndarray) -> np.ndarray:
        # YuNet's order, subject's right eye first, is image-left eye first.
        self._net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        return np.empty((0, 15), np.float32) if rows is None else rows


class CenterFaceDetector(NetworkDetector):
    """CenterFace (MIT), whose weights are shipped with mini: the detector of a machine without YuNet's file.

    A look takes about four times YuNet's at one size, so it looks at smaller images: at 0.6 of the side it missed a
    tenth of the faces that are 33 pixels wide in 640, at 0.75 none.
    """

    name = "centerface"
    share = 0.75

    def __init__(self, config: FacesConfig) -> None:
        super().__init__(locate("mini/centerface"), config)
        self._net = load_centerface(self.weights[self.name])

    def _search(self, small: np.ndarray) -> np.ndarray:
        # The square root, as in YuNet's score: so faces.min_confidence=0.6 is 0.36 here, and the authors take 0.35.
        rows = detect_faces(self._net, small, self._min_confidence**2)
        rows[:, 14] **= 0.5
        kept = cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), self._min_confidence, _NMS_THRESHOLD)
        return rows[np.asarray(kept, dtype=int).reshape(-1)]


def _follow(model: LandmarkModel, image: np.ndarray, face: Face) -> Face | None:
    """Follow a face by two passes of the landmark network, the second where the first found it; the box moves along."""
    points, score = model.refine(image, face.landmarks)
    if score >= _REFINER_CERTAIN:
        points, second = model.refine(image, points)
        score = min(score, second)
    if score < _REFINER_CERTAIN:
        return None
    move = similarity_transform(face.landmarks, points)
    middle, side = apply(move, face.box[:2] + face.box[2:] / 2), face.box[2:] * scale_of(move)
    return Face(np.concatenate([middle - side / 2, side]).astype(np.float32), face.score, points)


def best_first(faces: list[Face]) -> list[Face]:
    """Sort by score times area."""
    return sorted(faces, key=lambda face: face.score * face.area, reverse=True)


def shrink(image: np.ndarray, max_side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image no larger than ``max_side`` and the (2,) scale x, y that it was shrunk by (at most 1)."""
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
