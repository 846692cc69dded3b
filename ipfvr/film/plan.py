"""The plan of a job: which person is restored in which frames and clips, and the parts that are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ipfvr.core.choices import OTHERS
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.diffusion.long_video import make_long_video, plan_windows
from ipfvr.faces.align import crop, scale_of
from ipfvr.faces.people import match_people
from ipfvr.faces.track import FaceTrack, Scan, main_tracks
from ipfvr.film.job import Job
from ipfvr.video.clips import ClipWindow

_LONGEST_PART = 240  # frames of a part without a clip border; a kill can lose this many


@dataclass(frozen=True)
class Presence:
    """A face that is restored over a stretch of frames.

    Attributes:
        who: the person's name, or ``others``.
        start: its first frame.
        stop: the frame after its last.
        track: where the face is; None: the whole frame is the aligned crop.
        cosine: the mean cosine of the track to the person; None: the job has no references.
    """

    who: str
    start: int
    stop: int
    track: FaceTrack | None = None
    cosine: float | None = None

    @property
    def area(self) -> float:
        """The area of the face in square pixels."""
        return self.track.area if self.track else 0.0

    def matrix(self, frame: int, size: int) -> np.ndarray | None:
        """Return the transform from the frame to the aligned crop; None: the frame is the crop."""
        return self.track.matrix(frame, size) if self.track else None

    def width(self, size: int) -> float:
        """Return the width in pixels of the crop in the middle frame; ``size`` if the frame is the crop."""
        middle = (self.start + self.stop - 1) // 2
        return size / scale_of(self.track.matrix(middle, size)) if self.track else float(size)

    def low(self, frame: int, image: np.ndarray, size: int) -> np.ndarray:
        """Return the low-quality aligned crop of a frame."""
        return crop(image, self.track.matrix(frame, size), size) if self.track else image

    def windows(self, config: Config, part: tuple[int, int]) -> list[ClipWindow]:
        """Return the clips that the frames ``part`` need."""
        return plan_windows([(self.start, self.stop)], config, part)


@dataclass(frozen=True)
class Plan:
    """The plan of a whole job.

    Attributes:
        start, stop: the frames that are written.
        presences: which person is restored where, by first frame.
        borders: frames at which a new part begins, from ``start`` to ``stop``.
        scan: the scan of the video; None: the source is an aligned crop.
    """

    start: int
    stop: int
    presences: tuple[Presence, ...]
    borders: tuple[int, ...]
    scan: Scan | None

    @property
    def parts(self) -> list[tuple[int, int]]:
        """(start, stop) of each part."""
        return list(pairwise(self.borders))

    @property
    def people(self) -> list[str]:
        """The people who are restored, in order of appearance."""
        return list(dict.fromkeys(presence.who for presence in self.presences))

    def windows(self, presence: Presence, config: Config) -> list[ClipWindow]:
        """Return the clips of a presence that the written frames need."""
        return presence.windows(config, (self.start, self.stop))

    def clips(self, config: Config) -> int:
        """Return the number of clips of all presences."""
        return sum(len(self.windows(presence, config)) for presence in self.presences)

    def restored(self) -> int:
        """Return the number of written frames with a restored face."""
        seen = np.zeros(self.stop, dtype=bool)
        for presence in self.presences:
            seen[presence.start : presence.stop] = True
        return int(seen[self.start :].sum())

    def left_alone(self) -> list[FaceTrack]:
        """Return the tracks in the written frames that are not restored, by first frame."""
        tracks = self.scan.tracks if self.scan else []
        restored = {id(presence.track) for presence in self.presences}
        return [t for t in tracks if id(t) not in restored and t.start < self.stop and t.stop > self.start]

    def appearances(self) -> dict[str, dict[str, Any]]:
        """Return the tracks, the written frames and the cosines of each person."""
        found: dict[str, dict[str, Any]] = {}
        for presence in self.presences:
            entry = found.setdefault(presence.who, {"tracks": 0, "frames": 0, "cosines": []})
            entry["tracks"] += 1
            entry["frames"] += min(presence.stop, self.stop) - max(presence.start, self.start)
            entry["cosines"] += [] if presence.cosine is None else [round(presence.cosine, 3)]
        return found


def make_plan(job: Job, frames: int, scan: Scan | None, people: Mapping[str, np.ndarray], config: Config) -> Plan:
    """Decide which person is restored in which frames.

    Args:
        job: the job.
        frames: the number of frames of the video.
        scan: the scan of the video; None: the source is an aligned crop.
        people: the vector of each person to look for, by name.
        config: the configuration.

    Raises:
        UserError: there is no face, or a person is not in the video.
    """
    start, stop = job.part or (0, frames)
    if scan is None:
        presences = [Presence(job.everybody[0].name if job.everybody else OTHERS, 0, frames)]
    else:
        presences = _presences(job, scan, people, config)
    if not presences and job.crop:
        raise UserError(
            f"no face found in {job.source}: if it is a square face crop already, give --aligned; "
            "otherwise lower faces.min_confidence"
        )
    inside = tuple(presence for presence in presences if presence.start < stop and presence.stop > start)
    return Plan(start, stop, inside, _borders(presences, frames, (start, stop), config), scan)


def _presences(job: Job, scan: Scan, people: Mapping[str, np.ndarray], config: Config) -> list[Presence]:
    tracks = scan.tracks
    if people:
        matches = match_people(tracks, people, config.people)
        named = [
            Presence(name, t.start, t.stop, t, row[name])
            for t, name, row in zip(tracks, matches.names, matches.cosines, strict=True)
            if name is not None
        ]
        unmatched = [t for t, name in zip(tracks, matches.names, strict=True) if name is None]
    else:
        named, unmatched = [], main_tracks(tracks) if job.crop else tracks
    if job.restores_others and not (job.crop and people):
        named += [Presence(OTHERS, t.start, t.stop, t) for t in unmatched]
    return sorted(named, key=lambda presence: (presence.start, presence.area))


def _borders(presences: list[Presence], frames: int, part: tuple[int, int], config: Config) -> tuple[int, ...]:
    """Return where parts begin: where the frames of a clip are finished, but at least a clip's stride apart.

    The borders do not depend on which part of the video is written, so the parts of two runs fit together.
    """
    long_video = make_long_video(config.long_video, config.video.overlap)
    clips = [presence.windows(config, (0, frames)) for presence in presences]
    ends = {border for windows in clips for part in long_video.parts(windows) for border in part}
    least = max(1, config.video.clip_frames - config.video.overlap)
    borders = [0]
    for border in [*sorted(ends - {0}), frames]:
        while border - borders[-1] > _LONGEST_PART:
            borders.append(borders[-1] + _LONGEST_PART)
        # Either the frames of a whole clip, or the beginning or end of a lone face.
        if border - borders[-1] >= least or border == frames:
            borders.append(border)
    inside = {border for border in borders if part[0] < border < part[1]}
    return (part[0], *sorted(inside), part[1])
