"""The first pass over a video: its faces, its cuts, its people, and the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ipfvr.core.messages import progress_bar
from ipfvr.core.options import Config
from ipfvr.faces.detect import Detector, make_detector
from ipfvr.faces.people import check_distinct, face_vector, person_vector, with_bounds
from ipfvr.faces.recognise import Recogniser, load_recogniser
from ipfvr.faces.reference import reference_crop
from ipfvr.faces.track import Scan, scan_video
from ipfvr.film.job import Job
from ipfvr.film.parts import Parts
from ipfvr.film.plan import Plan, make_plan
from ipfvr.video.reader import VideoReader

_SHOWN = 8  # stretches without a face that a note lists one by one


@dataclass(frozen=True)
class Analysis:
    """The result of the first pass, before anything is restored.

    Attributes:
        reader: the source.
        plan: what will be done.
        references: aligned crops of each person's pictures, by name.
        files: the weights that found and recognised the faces, by part.
        notes: notes that a user can act upon, one line each.
    """

    reader: VideoReader
    plan: Plan
    references: Mapping[str, list[np.ndarray]]
    files: Mapping[str, Path]
    notes: list[str]


def analyse(job: Job, config: Config, reader: VideoReader, parts: Parts | None) -> Analysis:
    """Find the faces and the people of a video, and plan the restoration.

    Args:
        job, config: the job.
        reader: its source.
        parts: keeps a finished scan; None: nothing is written.

    Raises:
        UserError: see :func:`ipfvr.film.plan.make_plan` and :mod:`ipfvr.faces.people`.
    """
    notes: list[str] = []
    files: dict[str, Path] = {}
    detector: Detector | None = None
    recogniser: Recogniser | None = None
    people: dict[str, np.ndarray] = {}
    if job.everybody or not job.aligned:
        detector = make_detector(config.faces)
        files.update(detector.weights)
    if job.everybody and not job.aligned:
        recogniser = load_recogniser(config.people.recogniser)
        files["people"] = recogniser.path
        config = replace(config, people=with_bounds(config.people, recogniser.name))
        people = known_people(job, detector, recogniser, config)
    references = reference_crops(job, detector, config)
    scan = None if job.aligned else _scan(config, reader, detector, recogniser, parts)
    plan = make_plan(job, reader.info.frames, scan, people, config)
    if scan is not None:
        notes += _remarks(job, plan, config, reader)
    return Analysis(reader, plan, references, files, notes)


def known_people(job: Job, detector: Detector, recogniser: Recogniser, config: Config) -> dict[str, np.ndarray]:
    """Return the vector of each person to look for, by name.

    Raises:
        UserError: a picture does not show one clear face, or one face has two names.
    """
    vectors = {p.name: person_vector(p.references, detector, recogniser, job.face) for p in job.everybody}
    check_distinct(vectors, config.people)
    return vectors


def reference_crops(job: Job, detector: Detector | None, config: Config) -> dict[str, list[np.ndarray]]:
    """Return the aligned crops (size, size, 3) of each person's pictures, by name.

    Raises:
        UserError: a picture does not show one clear face.
    """
    size = config.video.size
    return {p.name: [reference_crop(path, detector, size, job.face) for path in p.references] for p in job.everybody}


def _scan(
    config: Config,
    reader: VideoReader,
    detector: Detector,
    recogniser: Recogniser | None,
    parts: Parts | None,
) -> Scan:
    kept = parts.scan() if parts is not None else None
    if kept is not None:
        return kept
    embed = None if recogniser is None else lambda image, face: face_vector(image, face, recogniser)
    with progress_bar(reader.info.frames, "finding faces", "frame") as bar:
        scan = scan_video(reader, detector, config.faces, embed, lambda _: bar.update(), config.faces.every)
    if parts is not None:
        parts.save_scan(scan)
    return scan


def damage_note(reader: VideoReader, frames: Sequence[int]) -> str:
    """Return a note on damaged frames: how many there are, and when they are shown.

    Args:
        reader: the video.
        frames: the numbers of the damaged frames, in rising order.
    """
    begins = [frame for frame in frames if frame - 1 not in set(frames)]
    shown = ", ".join(f"{reader.time_of(frame):.2f} s" for frame in begins[:8]) + (" ..." if len(begins) > 8 else "")
    return (
        f"{reader.path} is damaged: {len(frames)} of {reader.info.frames} frames, at {shown}, could not be decoded "
        "completely; where nothing could be decoded, the previous frame is repeated"
    )


def faceless_note(stretches: Sequence[tuple[int, int]], frames: int) -> str:
    """Return a note on the frames in which no face was found: how many there are, and which.

    Args:
        stretches: (first frame, frame after the last) of each stretch, in rising order.
        frames: how many frames were searched.
    """
    count = sum(stop - start for start, stop in stretches)
    shown = [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in stretches]
    more = f" and {len(shown) - _SHOWN} more stretches" if len(shown) > _SHOWN else ""
    verb = "has" if count == 1 else "have"
    return f"{count} of {frames} frames {verb} no face: {', '.join(shown[:_SHOWN])}{more}"


def _remarks(job: Job, plan: Plan, config: Config, reader: VideoReader) -> list[str]:
    """Return the notes that a user needs about a plan."""
    notes = []
    if not plan.presences:
        notes.append(
            f"no face found in {job.source}: every frame is left unchanged; lower faces.min_confidence to find more"
        )
    elif plan.scan is not None and (empty := plan.scan.faceless(plan.start, plan.stop)):
        notes.append(faceless_note(empty, plan.stop - plan.start))
    if plan.scan is not None and plan.scan.damaged:
        notes.append(damage_note(reader, plan.scan.damaged))
    likeness = [p.cosine for p in plan.presences if p.cosine is not None]
    if likeness and min(likeness) < config.people.same:  # only then was people.alone enough
        notes.append(
            f"the only face has a likeness of {min(likeness):.2f} to {job.everybody[0].name or 'the picture'}, below "
            f"{config.people.same:g}: it is restored as that person, because the video shows nobody else"
        )
    if config.weights.lora and not job.everybody:
        notes.append("without --reference the LoRA's person cannot be recognised: the LoRA is applied to every face")
    return notes
