"""Following faces through a video.

Tracks hold landmarks only, never pictures: a first pass over the file detects, a second crops while it streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ipfvr.core.options import FacesConfig
from ipfvr.faces.align import crop_matrix
from ipfvr.faces.detect import Detector, Face
from ipfvr.faces.follow import Chain, Embed, Follower, Watch
from ipfvr.video.cuts import CutDetector

_WINDOW = 4.0  # the Gaussian is cut at so many standard deviations
_FLASH = 3  # faces detected in fewer frames flash up: no track (two, where not every frame is looked at)
_MAIN_AREA = 1 / 16  # of the main face's area: a smaller face is not the same one in another scene


class HasImage(Protocol):
    """A frame, as :class:`ipfvr.video.reader.VideoReader` gives them."""

    image: np.ndarray  # (H, W, 3) uint8 RGB


@dataclass(frozen=True)
class FaceTrack:
    """The track of one face through one shot, without gaps.

    Attributes:
        start: its first frame.
        landmarks: (N, 5, 2) float64, smoothed, pixels of the frame, one entry a frame from ``start`` on.
        detected: (N,) bool: the face was detected in this very frame; elsewhere landmarks were interpolated.
        area: mean of the detected boxes, square pixels.
        weight: sum of score times area over the detections.
        vectors: (K, D) a recogniser's vectors of some of its faces; K = 0 where nobody is looked for.
    """

    start: int
    landmarks: np.ndarray
    detected: np.ndarray
    area: float
    weight: float
    vectors: np.ndarray

    @property
    def stop(self) -> int:
        """The frame after its last."""
        return self.start + len(self.landmarks)

    def matrix(self, frame: int, size: int) -> np.ndarray:
        """Return the transform from a frame (``start`` to ``stop`` - 1) to its aligned square of ``size`` pixels."""
        return crop_matrix(self.landmarks[frame - self.start], size)


@dataclass(frozen=True)
class Scan:
    """The result of one pass over a video.

    Attributes:
        frames: how many frames the video has.
        cuts: frames that begin a new shot, rising; 0 is none of them.
        tracks: every face, by first frame.
        damaged: frames that the decoder could not read whole and made up in part.
    """

    frames: int
    cuts: list[int]
    tracks: list[FaceTrack]
    damaged: list[int]

    def faceless(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The stretches (first frame, frame after the last) of ``start`` to ``stop`` in which no face was found."""
        seen = np.zeros(self.frames, dtype=bool)
        for track in self.tracks:
            seen[track.start : track.stop] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[True], seen[start:stop], [True]]))) + start
        return [(int(first), int(after)) for first, after in edges.reshape(-1, 2)]


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
        """Return the transform from a frame to its aligned square of ``size`` pixels, None where there is no face."""
        return crop_matrix(self.landmarks[frame], size) if self.present[frame] else None


def scan_video(
    frames: Iterable[HasImage],
    detector: Detector,
    config: FacesConfig,
    embed: Embed | None = None,
    progress: Callable[[int], None] | None = None,
    every: int = 1,
) -> Scan:
    """Find the cuts and follow every face of a stream of frames; two pictures at a time are held.

    Args:
        frames: a :class:`ipfvr.video.reader.VideoReader`, or anything that gives objects with ``image``.
        detector: what finds faces.
        config: ``smoothing``, ``max_gap`` and ``recognise_every`` are used, and ``search_every`` where ``every`` > 1.
        embed: what makes a vector of every ``recognise_every``-th face of a chain; None: nobody is looked for.
        progress: called with the number of frames done after each.
        every: every so many frames of a shot, and its last, are looked at (:class:`ipfvr.faces.follow.Watch`); between
            them faces are interpolated.
    """
    search_every = config.search_every if every > 1 else 1
    watch = Watch(detector, max(config.max_gap, every - 1), search_every, embed, config.recognise_every)
    cutter = CutDetector()
    cuts: list[int] = []
    damaged: list[int] = []
    total = shot = 0
    skipped: np.ndarray | None = None  # the frame before, if it was not looked at: the shot's last, if a cut follows
    for index, frame in enumerate(frames):
        cut = cutter.is_cut(frame.image)
        if skipped is not None and cut:
            watch.look(index - 1, skipped, last=True)
        elif skipped is not None:
            watch.skip()
        cuts += [index] if cut else []
        damaged += [index] if getattr(frame, "damaged", False) else []
        shot = index if cut else shot
        skipped = frame.image if (index - shot) % every else None
        if skipped is None:
            watch.look(index, frame.image, cut)
        total = index + 1
        if progress is not None:
            progress(total)
    if skipped is not None:
        watch.look(total - 1, skipped, last=True)
    return Scan(total, cuts, build_tracks(watch.chains(), config, _FLASH if every == 1 else 2), damaged)


def track_video(
    frames: Iterable[HasImage],
    detector: Detector,
    config: FacesConfig,
    progress: Callable[[int], None] | None = None,
) -> Track:
    """Return the main face of a stream of frames: :func:`scan_video`, then :func:`main_tracks`.

    Returns:
        The track; ``present`` is False everywhere when no frame has a face.
    """
    scan = scan_video(frames, detector, config, progress=progress)
    return _one_track(scan.frames, main_tracks(scan.tracks))


def build_track(found: list[list[Face]], config: FacesConfig) -> Track:
    """Build the main face's track from the faces of every frame, without pictures in which to find cuts."""
    follower = Follower(config.max_gap)
    for faces in found:
        follower.add(faces)
    return _one_track(len(found), main_tracks(build_tracks(follower.chains(), config)))


def build_tracks(chains: list[Chain], config: FacesConfig, least: int = _FLASH) -> list[FaceTrack]:
    """Chains filled and smoothed, by first frame.

    Gaps (the chains have none above ``config.max_gap``) are filled along straight lines, then the landmarks are
    smoothed by a Gaussian. Faces that flash up, in less than ``least`` detections, are
    left out, unless no chain has more.
    """
    least = min(least, max((len(chain.frames) for chain in chains), default=0))
    tracks = []
    for chain in chains:
        if len(chain.frames) < least:
            continue
        first, last, index = chain.frames[0], chain.frames[-1], np.array(chain.frames)
        points = np.stack([face.landmarks for face in chain.faces]).astype(np.float64)
        filled = fill_gaps(points, index, np.arange(first, last + 1))
        detected = np.zeros(last + 1 - first, dtype=bool)
        detected[index - first] = True
        tracks.append(
            FaceTrack(
                start=first,
                landmarks=smooth_landmarks(filled, config.smoothing),
                detected=detected,
                area=float(np.mean([face.area for face in chain.faces])),
                weight=float(sum(face.score * face.area for face in chain.faces)),
                vectors=np.stack(chain.vectors) if chain.vectors else np.empty((0, 1), np.float32),
            )
        )
    return sorted(tracks, key=lambda track: (track.start, -track.weight))


def main_tracks(tracks: list[FaceTrack]) -> list[FaceTrack]:
    """Return the heaviest track and those that can show the same face in other scenes, in order of time.

    The weight is the sum of score times area, so a face that is large for long wins over one that is larger for a
    moment. Two faces seen at one time are two people, so a track that shares time with a heavier one is left out; so
    are faces of less than a quarter of the main one's width.
    """
    chosen: list[FaceTrack] = []
    for track in sorted(tracks, key=lambda track: -track.weight):
        apart = all(track.stop <= other.start or track.start >= other.stop for other in chosen)
        if apart and (not chosen or track.area >= chosen[0].area * _MAIN_AREA):
            chosen.append(track)
    return sorted(chosen, key=lambda track: track.start)


def fill_gaps(landmarks: np.ndarray, at: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Interpolate landmarks (K, 5, 2) at frames ``at`` (K,) linearly to ``frames`` (M,): (M, 5, 2)."""
    flat = landmarks.reshape(len(at), -1)
    return np.stack([np.interp(frames, at, column) for column in flat.T], axis=1).reshape(len(frames), 5, 2)


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


def _one_track(total: int, tracks: list[FaceTrack]) -> Track:
    """Join tracks that share no time."""
    landmarks = np.full((total, 5, 2), np.nan)
    detected = np.zeros(total, dtype=bool)
    scenes = np.full(total, -1)
    for number, track in enumerate(tracks):
        landmarks[track.start : track.stop] = track.landmarks
        detected[track.start : track.stop] = track.detected
        scenes[track.start : track.stop] = number
    return Track(total, landmarks, scenes >= 0, detected, scenes)
