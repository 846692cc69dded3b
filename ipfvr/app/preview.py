"""One frame as the restored film would show it: the only place of the app that restores by itself."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ipfvr.app.project import Film
from ipfvr.core.choices import OTHERS
from ipfvr.core.config import config_to_dict
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.faces.track import FaceTrack, Scan
from ipfvr.film.analysis import Analysis, analyse
from ipfvr.film.check import check_job
from ipfvr.film.effect import HARDLY, reference_changes
from ipfvr.film.job import Job
from ipfvr.film.learn import to_learn, with_learned
from ipfvr.film.people import LoadedPeople, load_people
from ipfvr.film.plan import Plan
from ipfvr.film.show import close_up
from ipfvr.film.stream import FilmStream
from ipfvr.film.write import canvas_for
from ipfvr.video.photo import Photo
from ipfvr.video.reader import VideoReader

FRAMES, OVERLAP = 8, 2  # of a preview's clip: a film's has more, which makes it calmer and the wait longer
_KEPT = 3  # settings whose networks are kept
_FACE = 512  # side of a face close up, pixels


@dataclass(frozen=True)
class Preview:
    """A frame before and after, and each of its faces.

    Attributes:
        before, after: (H, W, 3) uint8 RGB of one size.
        faces: of each that is restored its track (None: the frame is the face), and the face close up, before and
            after, (512, 512, 3) each; the largest first.
        notes: what a restorer can act upon, a line each.
    """

    before: np.ndarray
    after: np.ndarray
    faces: list[tuple[FaceTrack | None, np.ndarray, np.ndarray]]
    notes: list[str]


@dataclass
class _Ready:
    """The networks and people that are loaded for one job."""

    job: Job
    analysis: Analysis
    loaded: LoadedPeople
    notes: list[str]


class Previewer:
    """Restores single frames, one at a time; the networks of the last settings stay loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Ready] = OrderedDict()

    def frame(self, film: Film, job: Job, config: Config, index: int, without: bool = False) -> Preview:
        """Restore a frame.

        Args:
            film: it is of.
            job, config: how.
            index: of the frame.
            without: the frame before is not the source's but the one that is restored without pictures, LoRA and words.

        Raises:
            UserError: as :func:`ipfvr.film.run.restore`.
        """
        with self._lock:
            ready = self._ready(film, job, config)
            source = film.image(index)
            plan = _plan_of_frame(ready.analysis.plan, index)
            after = _restored(ready, plan, config, index)
            before = source
            if without:
                nobody = replace(job, people=(), references=(), learn=False)
                plain = self._ready(film, nobody, config)
                strangers = tuple(replace(presence, who=OTHERS, cosine=None) for presence in plan.presences)
                before = _restored(plain, replace(plan, presences=strangers), config, index)
            if before.shape != after.shape:
                before = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_CUBIC)
            faces = []
            for presence in sorted(plan.presences, key=lambda one: -one.area) if not job.square else ():
                part = close_up(presence, index, config.video.size, source.shape[1::-1], after.shape[1::-1])
                faces.append((presence.track, _large(before[part]), _large(after[part])))
            notes = list(ready.notes)
            if not plan.presences:
                notes.insert(0, f"nobody is restored in frame {index}: move to where the timeline shows somebody")
            return Preview(before, after, faces, notes)

    def reference_changes(self, film: Film, job: Job, config: Config) -> list[str]:
        """Measure what each person's pictures change in the face, one line each.

        Raises:
            UserError: as :func:`ipfvr.film.run.restore`; nobody has a picture.
        """
        if not job.everybody:
            raise UserError("nobody has a picture yet: drop one, and what it changes is measured here")
        with self._lock:
            ready = self._ready(film, job, config)
            plan, loaded = ready.analysis.plan, ready.loaded
            found = reference_changes(plan, film.reader, loaded, config)
        lines = []
        for who, change in found.items():
            seen = (
                "nobody will see it; learning the face from it changes more" if change < HARDLY else "look for it above"
            )
            lines.append(f"{who or 'the person'}: {change:.2f} of 255 grey levels of the face on average; {seen}")
        return lines

    def _ready(self, film: Film, job: Job, config: Config) -> _Ready:
        key = json.dumps([str(film.path), repr(replace(job, output=job.source, part=None)), config_to_dict(config)])
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        whole = replace(job, part=None)
        check_job(whole, film.reader)
        analysis = analyse(whole, config, film.reader, _StoredScan(film.scan))
        notes = list(analysis.notes)
        equipped = whole
        if job.learns(config) and to_learn(whole, analysis.plan, config):
            notes.append("the preview is without what the job will learn from the pictures")
        elif job.learns(config):
            equipped = with_learned(whole, analysis.plan, config)
        loaded = load_people(equipped, analysis.plan, config, film.reader, analysis.references, None)
        self._kept[key] = _Ready(equipped, analysis, loaded, [*notes, *loaded.notes])
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


class _StoredScan:
    """A finished scan in place of a job's folder."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def scan(self) -> Scan:
        """Return the scan that was made when the film was dropped."""
        return self._scan


def _plan_of_frame(plan: Plan, index: int) -> Plan:
    """Return the plan of one frame."""
    here = tuple(presence for presence in plan.presences if presence.start <= index < presence.stop)
    return Plan(index, index + 1, here, (index, index + 1), plan.scan)


def _restored(ready: _Ready, plan: Plan, config: Config, index: int) -> np.ndarray:
    video = config.video
    if video.clip_frames > FRAMES:
        config = replace(config, video=replace(video, clip_frames=FRAMES, overlap=min(OVERLAP, video.overlap)))
    reader: VideoReader | Photo = ready.analysis.reader
    canvas = canvas_for(ready.job, config, reader)
    stream = FilmStream(reader, plan, ready.loaded.people, canvas, config, index, lambda _: None)
    return stream.next()[0]


def _large(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (_FACE, _FACE), interpolation=cv2.INTER_CUBIC)
