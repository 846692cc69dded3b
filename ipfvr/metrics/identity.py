"""Likeness: cosines of face embeddings (IDS) and how much they vary over a clip (sigma_IDS)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.shapes import Float, UInt8
from ipfvr.faces.align import face_template
from ipfvr.faces.detect import Detector, Face, box_overlap
from ipfvr.faces.recognise import Recogniser, embed_faces, reference_face
from ipfvr.identity.reward import identity_reward
from ipfvr.metrics.base import ClipMetric, FrameMetric
from ipfvr.metrics.columns import labelled
from ipfvr.metrics.info import MetricInfo

SAME_FACE_OVERLAP = 0.1  # boxes of neighbouring frames that share less are not taken for one face


def identity_similarity(
    embeddings: Float[Tensor, "f 1"] | Float[Tensor, "f d"], target: Float[Tensor, "f d"] | Float[Tensor, " d"]
) -> Float[Tensor, " f"]:
    """IDS = cos(phi(x_f), phi(y)): cosine of two faces' embeddings (section 4.1; the similarity of Eq. 5).

    Args:
        embeddings: (F, D); a row that is not finite is a frame without a face, (F, 1) where none has one.
        target: (F, D), or (D,) where all frames are compared with one picture.

    Returns:
        (F,) in [-1, 1], NaN where there is no face.
    """
    return identity_reward(embeddings.double(), target.double())


def identity_deviation(count: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """sigma_IDS = sqrt(mean(IDS^2) - mean(IDS)^2) x 100: standard deviation over the frames of a clip (section 4.1).

    It is the population's (divided by n, not n - 1), in units of 1e-2 as in the paper's tables. One frame has none.

    Args:
        count, total, squares: number, sum and sum of squares of a clip's IDS, shape ().

    Returns:
        shape (); NaN for fewer than two frames.

    Examples:
        >>> similarity = torch.tensor([0.4, 0.6], dtype=torch.float64)
        >>> round(identity_deviation(torch.tensor(2), similarity.sum(), similarity.square().sum()).item(), 6)
        10.0
    """
    variance = (squares / count - (total / count).square()).clamp(min=0)
    return torch.where(count >= 2, 100 * variance.sqrt(), torch.nan)


def identity_drift(similarity: Float[Tensor, " f"]) -> Float[Tensor, ""]:
    """Drift over a clip: mean similarity of its first third minus that of its last third.

    Above 0 the likeness is lost over the clip. A third is F / 3 frames, rounded, at least one.

    Args:
        similarity: IDS or r_f (F,); NaN where there is no face.

    Returns:
        shape ().

    Examples:
        >>> round(identity_drift(torch.tensor([0.9, 0.9, 0.8, 0.8, 0.7, 0.7])).item(), 2)
        0.2
    """
    third = max(1, round(len(similarity) / 3))
    return similarity[:third].nanmean() - similarity[-third:].nanmean()


def identity_jumps(similarity: Tensor, borders: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean change of IDS from one frame to the next, |IDS_f - IDS_{f-1}|: at the borders of clips, and elsewhere.

    Args:
        similarity: IDS (F,); NaN where there is no face.
        borders: frames f with which a clip begins to be kept, each in 1..F - 1.

    Returns:
        two of shape (); NaN where there is no change to average.
    """
    change = similarity.diff().abs()
    at = torch.zeros(len(change), dtype=torch.bool)
    at[[border - 1 for border in borders]] = True
    return change[at].nanmean(), change[~at].nanmean()


class IDS(FrameMetric):
    """:func:`identity_similarity`, mean over the frames of a clip, then over clips. ``update(embeddings, target)``.

    Args:
        target: ``gt`` (Tables 1, 3 and 5) or ``ref``; part of the number's name.
        recogniser: the network behind the embeddings; None leaves its name out.
    """

    higher_is_better = True

    def __init__(self, target: str, recogniser: Recogniser | None = None, **kwargs: Any) -> None:
        info = _info(f"ids_{target}", recogniser)
        super().__init__(info, **kwargs)

    def score(self, embeddings: Tensor, target: Tensor) -> Tensor:
        return identity_similarity(embeddings, target)


class SigmaIDS(ClipMetric):
    """:func:`identity_deviation` of each clip, mean over clips. ``update(embeddings, target)``.

    Args:
        target: ``gt`` or ``ref``; part of the number's name.
        recogniser: the network behind the embeddings; None leaves its name out.
    """

    higher_is_better = False
    similarity_total: Tensor
    similarity_squares: Tensor

    def __init__(self, target: str, recogniser: Recogniser | None = None, **kwargs: Any) -> None:
        info = _info(f"sigma_ids_{target}", recogniser)
        super().__init__(info, **kwargs)
        self.add_sum("similarity_total")
        self.add_sum("similarity_squares")

    @torch.no_grad()
    def update(self, embeddings: Tensor, target: Tensor) -> None:
        """Add frames to the open clip."""
        similarity = identity_similarity(embeddings, target)
        similarity = similarity[similarity.isfinite()]
        self.similarity_total = self.similarity_total + similarity.sum()
        self.similarity_squares = self.similarity_squares + similarity.square().sum()
        self.frames = self.frames + similarity.numel()

    def clip_value(self) -> Tensor:
        return identity_deviation(self.frames, self.similarity_total, self.similarity_squares)

    def clear_clip(self) -> None:
        super().clear_clip()
        self.similarity_total = torch.zeros_like(self.similarity_total)
        self.similarity_squares = torch.zeros_like(self.similarity_squares)


class LandmarkFinder:
    """Five points in each frame of one clip, for the recogniser's crop.

    The detector's points where it finds a face (of several, the one that overlaps the last frame's most, at first the
    best). Where it finds none, a square frame is taken for an aligned crop and gets the FFHQ-style template's points;
    any other frame has none. ``counts`` says how often each happened: ``detected``, ``template``, ``no face``.

    Args:
        detector: None: the template alone.
    """

    def __init__(self, detector: Detector | None) -> None:
        self.detector = detector
        self.counts: Counter[str] = Counter()
        self._last: Face | None = None

    def find(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "5 2"]:
        """(5, 2) pixels of a uint8 RGB (H, W, 3) frame; NaN where there is no face."""
        faces = self.detector.detect(image) if self.detector is not None else []
        if faces:
            self._last = self._follow(faces)
            self.counts["detected"] += 1
            return np.asarray(self._last.landmarks, dtype=np.float64)
        height, width = image.shape[:2]
        self.counts["template" if height == width else "no face"] += 1
        return face_template(height) if height == width else np.full((5, 2), np.nan)

    def _follow(self, faces: list[Face]) -> Face:
        if self._last is None:
            return faces[0]
        overlaps = [box_overlap(self._last.box, face.box) for face in faces]
        best = int(np.argmax(overlaps))
        return faces[best] if overlaps[best] >= SAME_FACE_OVERLAP else faces[0]


def embed_reference(
    recogniser: Recogniser, detector: Detector | None, pictures: dict[str, np.ndarray], choose: int | None = None
) -> Tensor:
    """Return one embedding of a person from one or more pictures: the mean of the pictures' embeddings, of length 1.

    Args:
        recogniser: the network.
        detector: None: square pictures are taken for aligned crops.
        pictures: name to uint8 RGB (H, W, 3).
        choose: which face of each picture is meant, counted from the left, from 1; None: there must be only one.

    Returns:
        (D,), on the CPU.

    Raises:
        UserError: a picture without a face, or with several and none chosen; no detector and not square.
    """
    found = []
    for name, image in pictures.items():
        if detector is not None:
            points = reference_face(image, detector, choose, name).landmarks
        elif image.shape[0] == image.shape[1]:
            points = face_template(image.shape[0])
        else:
            raise UserError(f"reference {name} is not an aligned square crop, and no detector looks for a face in it")
        found.append(embed_faces(image[None], points[None], recogniser)[0])
    return F.normalize(torch.stack(found).mean(0), dim=0)


def _info(key: str, recogniser: Recogniser | None) -> MetricInfo:
    if recogniser is None:
        return labelled(key)
    return labelled(key, f"{recogniser.name} (sha256 {recogniser.sha256})", recogniser.licence)
