"""What a job will do: who is restored in which frames, in which clips, written in which parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.diffusion.long_video import make_long_video, plan_windows
from ipfvr.faces.align import crop, scale_of
from ipfvr.faces.people import match_people
from ipfvr.faces.track import FaceTrack, Scan, main_tracks
from ipfvr.film.job import Job
from ipfvr.video.clips import ClipWindow

OTHERS = "others"  # who restores faces of nobody that was named
_LONGEST_PART = 240  # frames of a part with no clip's border in it, which is what a kill can cost there


@dataclass(frozen=True)
class Presence:
    """A face that is restored over a stretch of frames.

    Attributes:
        who: the person's name, or ``others``.
        start: its first frame.
        stop: the frame after its last.
        track: where it is; None: the whole frame is its square.
        cosine: of the track to the person; None where nobody was looked for.
    """

    who: str
    start: int
    stop: int
    track: FaceTrack | None = None
    cosine: float | None = None

    @property
    def area(self) -> float:
        """Of the face, square pixels."""
        return self.track.area if self.track else 0.0

    def matrix(self, frame: int, size: int) -> np.ndarray | None:
        """From the frame to the square; None where the frame is the square."""
        return self.track.matrix(frame, size) if self.track else None

    def width(self, size: int) -> float:
        """Of its square in its middle frame, pixels; ``size`` where the frame is the square."""
        middle = (self.start + self.stop - 1) // 2
        return size / scale_of(self.track.matrix(middle, size)) if self.track else float(size)

    def low(self, frame: int, image: np.ndarray, size: int) -> np.ndarray:
        """The low-quality square of a frame."""
        return crop(image, self.track.matrix(frame, size), size) if self.track else image

    def windows(self, config: Config, part: tuple[int, int]) -> list[ClipWindow]:
        """Its clips that are needed for the frames ``part``."""
        return plan_windows([(self.start, self.stop)], config, part)


@dataclass(frozen=True)
class Plan:
    """The whole job.

    Attributes:
        start, stop: frames that are written.
        presences: who is restored where, by first frame.
        borders: frames at which the encoder begins anew, from ``start`` to ``stop``: parts lie between.
        scan: what is known of the video; None: aligned, nothing was looked for.
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
        """Who is restored, in order of appearance."""
        return list(dict.fromkeys(presence.who for presence in self.presences))

    def windows(self, presence: Presence, config: Config) -> list[ClipWindow]:
        """The clips of a presence that are needed for the frames that are written."""
        return presence.windows(config, (self.start, self.stop))

    def clips(self, config: Config) -> int:
        """Number of clips of everybody."""
        return sum(len(self.windows(presence, config)) for presence in self.presences)

    def restored(self) -> int:
        """Number of frames with a face that is restored."""
        seen = np.zeros(self.stop, dtype=bool)
        for presence in self.presences:
            seen[presence.start : presence.stop] = True
        return int(seen[self.start :].sum())

    def left_alone(self) -> list[FaceTrack]:
        """Faces in the frames that are written that nobody restores, by first frame."""
        tracks = self.scan.tracks if self.scan else []
        restored = {id(presence.track) for presence in self.presences}
        return [t for t in tracks if id(t) not in restored and t.start < self.stop and t.stop > self.start]

    def appearances(self) -> dict[str, dict[str, Any]]:
        """Of each person: tracks, frames that are written, and the cosines of the tracks."""
        found: dict[str, dict[str, Any]] = {}
        for presence in self.presences:
            entry = found.setdefault(presence.who, {"tracks": 0, "frames": 0, "cosines": []})
            entry["tracks"] += 1
            entry["frames"] += min(presence.stop, self.stop) - max(presence.start, self.start)
            entry["cosines"] += [] if presence.cosine is None else [round(presence.cosine, 3)]
        return found


def make_plan(job: Job, frames: int, scan: Scan | None, people: Mapping[str, np.ndarray], config: Config) -> Plan:
    """Decide who is restored where.

    Args:
        job: what is wanted.
        frames: of the video.
        scan: what was found in it; None: it is an aligned crop.
        people: the vector of everybody to look for, by name.
        config: how.

    Raises:
        UserError: no face, or a person who is not there.
    """
    start, stop = job.part or (0, frames)
    if scan is None:
        presences = [Presence(job.everybody[0].name if job.everybody else OTHERS, 0, frames)]
    else:
        presences = _presences(job, scan, people, config)
    if not presences and job.crop:
        raise UserError(
            f"no face found in {job.source}: if it is a square face crop already, say --aligned; "
            "else lower faces.min_confidence"
        )
    inside = tuple(presence for presence in presences if presence.start < stop and presence.stop > start)
    return Plan(start, stop, inside, _borders(presences, frames, (start, stop), config), scan)


def _presences(job: Job, scan: Scan, people: Mapping[str, np.ndarray], config: Config) -> list[Presence]:
    tracks = scan.tracks
    if people:
        cast = match_people(tracks, people, config.people)
        named = [
            Presence(name, t.start, t.stop, t, row[name])
            for t, name, row in zip(tracks, cast.names, cast.cosines, strict=True)
            if name is not None
        ]
        nobody = [t for t, name in zip(tracks, cast.names, strict=True) if name is None]
    else:
        named, nobody = [], main_tracks(tracks) if job.crop else tracks
    if job.restores_others and not (job.crop and people):
        named += [Presence(OTHERS, t.start, t.stop, t) for t in nobody]
    return sorted(named, key=lambda presence: (presence.start, presence.area))


def _borders(presences: list[Presence], frames: int, part: tuple[int, int], config: Config) -> tuple[int, ...]:
    """Where parts begin: where a clip's frames have come out, but no closer than clips follow each other.

    They are those of the whole video, whichever part of it is written, so that the parts of two runs fit together.
    """
    long_video = make_long_video(config.long_video, config.video.overlap)
    clips = [presence.windows(config, (0, frames)) for presence in presences]
    wanted = {border for windows in clips for part in long_video.parts(windows) for border in part}
    least = max(1, config.video.clip_frames - config.video.overlap)
    borders = [0]
    for border in [*sorted(wanted - {0}), frames]:
        while border - borders[-1] > _LONGEST_PART:
            borders.append(borders[-1] + _LONGEST_PART)
        # A whole clip's frames, or the beginning or end of the only face there.
        if border - borders[-1] >= least or border == frames:
            borders.append(border)
    inside = {border for border in borders if part[0] < border < part[1]}
    return (part[0], *sorted(inside), part[1])
