"""One main face followed through a video.

The track holds boxes and landmarks only, never pictures: a first pass over the file detects, a second
crops while it streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ipfvr.faces.align import crop_matrix
from ipfvr.faces.detect import Detector, Face, box_overlap
from ipfvr.options import FacesConfig

_CUT_OVERLAP = 0.1  # boxes of neighbouring frames that share less are two scenes, or two people
_WINDOW = 4.0  # the Gaussian is cut at so many standard deviations


class HasImage(Protocol):
    """A frame, as :class:`ipfvr.video.reader.VideoReader` gives them."""

    image: np.ndarray  # (H, W, 3) uint8 RGB


@dataclass(frozen=True)
class Track:
    """The main face of every frame of a video.

    Attributes:
        frames: how many frames the video has, F.
        landmarks: (F, 5, 2) float64, pixels of the frame; NaN where the face is absent.
        present: (F,) bool: the face was detected, or its landmarks were interpolated.
        detected: (F,) bool: the face was detected in this very frame.
        scenes: (F,) int: frames with the same number were filtered together; -1 where absent.
    """

    frames: int
    landmarks: np.ndarray
    present: np.ndarray
    detected: np.ndarray
    scenes: np.ndarray

    def matrix(self, frame: int, size: int) -> np.ndarray | None:
        """The transform from a frame to its aligned square of ``size`` pixels, None where there is no face."""
        return crop_matrix(self.landmarks[frame], size) if self.present[frame] else None


def track_video(
    frames: Iterable[HasImage],
    detector: Detector,
    config: FacesConfig,
    progress: Callable[[int], None] | None = None,
) -> Track:
    """Detect, choose and smooth the main face of a stream of frames, at constant memory.

    Args:
        frames: a :class:`ipfvr.video.reader.VideoReader`, or anything that gives objects with ``image``.
        detector: what finds faces.
        config: ``smoothing`` and ``max_gap`` are used.
        progress: called with the number of frames done after each.

    Returns:
        The track; ``present`` is False everywhere when no frame has a face.
    """
    found = []
    for count, frame in enumerate(frames, start=1):
        found.append(detector.detect(frame.image))
        if progress is not None:
            progress(count)
    return build_track(found, config)


def build_track(found: list[list[Face]], config: FacesConfig) -> Track:
    """The main face's track from every frame's faces, best first.

    The faces are chained through time by overlap. A scene's main face is the chain with the greatest
    sum of score times area, so a face that is large for long wins over one that is larger for a moment.
    Gaps of at most ``config.max_gap`` frames within a scene are filled along straight lines, then the
    landmarks are smoothed by a Gaussian; neither crosses a cut nor a longer gap.
    """
    total = len(found)
    landmarks = np.full((total, 5, 2), np.nan)
    detected = np.zeros(total, dtype=bool)
    scenes = np.full(total, -1)
    for number, chain in enumerate(_main_chains(_chains(found, config.max_gap))):
        first, last = chain[0][0], chain[-1][0]
        index = np.array([i for i, _ in chain])
        points = np.stack([face.landmarks for _, face in chain]).astype(np.float64)
        filled = fill_gaps(points, index, np.arange(first, last + 1))
        landmarks[first : last + 1] = smooth_landmarks(filled, config.smoothing)
        detected[index] = True
        scenes[first : last + 1] = number
    return Track(total, landmarks, scenes >= 0, detected, scenes)


def fill_gaps(landmarks: np.ndarray, at: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Landmarks (K, 5, 2) known at frames ``at`` (K,), on straight lines at frames ``wanted`` (M,): (M, 5, 2)."""
    flat = landmarks.reshape(len(at), -1)
    return np.stack([np.interp(wanted, at, column) for column in flat.T], axis=1).reshape(len(wanted), 5, 2)


def smooth_landmarks(landmarks: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing over time of one scene without gaps.

    ``y_t`` is the value at ``t`` of the line fitted to the ``x_s`` with weights
    ``w_s = exp(-(s - t)^2 / (2 sigma^2))``, ``|s - t| <= 4 sigma``. Where the window is whole this is the
    Gaussian mean; at the ends, where a mean would pull towards the inside, straight motion is kept too.

    Args:
        landmarks: (F, 5, 2), pixels (any (F, ...) will do).
        sigma: standard deviation, frames; 0 returns the input.

    Returns:
        (F, 5, 2) float64.

    Raises:
        ValueError: a negative sigma.
    """
    if sigma < 0:
        raise ValueError("sigma must not be negative")
    landmarks = np.asarray(landmarks, dtype=np.float64)
    total = len(landmarks)
    if sigma == 0 or total < 3:
        return landmarks.copy()
    radius = max(1, int(np.ceil(_WINDOW * sigma)))
    result = np.empty_like(landmarks)
    for t in range(total):
        low, high = max(0, t - radius), min(total, t + radius + 1)
        d = np.arange(low, high) - t
        w = np.exp(-0.5 * (d / sigma) ** 2)
        m0, m1, m2 = w.sum(), (w * d).sum(), (w * d * d).sum()
        spread = m0 * m2 - m1 * m1
        # A sigma far below one frame leaves no second point of any weight: the sample itself.
        line = w * (m2 - m1 * d) / spread if spread > 1e-12 else (d == 0).astype(np.float64)
        result[t] = np.tensordot(line, landmarks[low:high], axes=1)
    return result


def _chains(found: list[list[Face]], max_gap: int) -> list[list[tuple[int, Face]]]:
    """Every face's way through time: lists of (frame, face), linked where boxes overlap most."""
    done: list[list[tuple[int, Face]]] = []
    open_: list[list[tuple[int, Face]]] = []
    for index, faces in enumerate(found):
        still = [c for c in open_ if index - c[-1][0] - 1 <= max_gap]
        done += [c for c in open_ if index - c[-1][0] - 1 > max_gap]
        pairs = [
            (box_overlap(chain[-1][1].box, face.box), c, f)
            for c, chain in enumerate(still)
            for f, face in enumerate(faces)
        ]
        taken_chains: set[int] = set()
        taken_faces: set[int] = set()
        for overlap, c, f in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= _CUT_OVERLAP and c not in taken_chains and f not in taken_faces:
                still[c].append((index, faces[f]))
                taken_chains.add(c)
                taken_faces.add(f)
        open_ = still + [[(index, face)] for f, face in enumerate(faces) if f not in taken_faces]
    return done + open_


def _main_chains(chains: list[list[tuple[int, Face]]]) -> list[list[tuple[int, Face]]]:
    """The heaviest chain and those that can be the same face in other scenes, in time's order.

    Two faces seen at one time are two people, so a chain that shares time with a heavier one is left
    out; so are faces of less than a quarter of the main one's width and detections that flash up for
    less than three frames.
    """
    if not chains:
        return []
    heaviest = max(chains, key=_weight)
    area = np.mean([face.area for _, face in heaviest])
    chosen: list[list[tuple[int, Face]]] = []
    for chain in sorted(chains, key=_weight, reverse=True):
        first, last = chain[0][0], chain[-1][0]
        apart = all(last < other[0][0] or first > other[-1][0] for other in chosen)
        large = np.mean([face.area for _, face in chain]) >= area / 16
        if apart and large and len(chain) >= min(3, len(heaviest)):
            chosen.append(chain)
    return sorted(chosen, key=lambda chain: chain[0][0])


def _weight(chain: list[tuple[int, Face]]) -> float:
    return sum(face.score * face.area for _, face in chain)
