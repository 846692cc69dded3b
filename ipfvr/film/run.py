"""Restore one video or picture: look, plan, restore part by part, put the parts together."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfvr.core.errors import UserError
from ipfvr.core.files import check_writable, write_json
from ipfvr.core.hashes import digest
from ipfvr.core.options import Config
from ipfvr.core.provenance import provenance
from ipfvr.core.startup import importing
from ipfvr.film.check import check_job
from ipfvr.film.command import command_of
from ipfvr.film.job import Job
from ipfvr.film.parts import Parts
from ipfvr.film.source import find_beside, open_source, remarks
from ipfvr.video.photo import Photo
from ipfvr.video.reader import VideoReader, read_image
from ipfvr.video.seek import pick_frames

if TYPE_CHECKING:
    from ipfvr.film.people import LoadedPeople
    from ipfvr.film.plan import Plan
    from ipfvr.models.networks import Networks

_log = logging.getLogger(__name__)


def restore(
    job: Job, config: Config, page: Path | None = None, networks: list[Networks] | None = None
) -> dict[str, Any]:
    """Restore one video, or one picture.

    What is done is kept in a hidden folder beside the output (:mod:`ipfvr.film.parts`): after a kill the same call goes
    on there, and ends in the same bytes.

    Args:
        job: what to restore.
        config: how.
        page: where the page with frames before and after goes; None: none is written.
        networks: those of earlier jobs with the same configuration; what this one loads is added to them.

    Returns:
        What is in the JSON beside the output.

    Raises:
        UserError: input, reference, output or weights that cannot be used, a person who is not there, a full disk.
    """
    began = time.monotonic()
    reader = open_source(job.source, config.video)
    check_job(job, reader)
    check_writable(job.output)
    extras = find_beside(reader, job.output)
    # Imported here: what a user can have got wrong is said before the seconds that this takes.
    from ipfvr.film.analysis import analyse, damage
    from ipfvr.film.inputs import job_inputs

    inputs = job_inputs(job, config)
    parts = Parts(job.output, inputs)
    finished = refused = False
    try:
        analysis = analyse(job, config, reader, parts)
        # Imported here: somebody who is not in the video is refused before the restorer's packages are read.
        with importing():
            from ipfvr.film.people import load_people
            from ipfvr.film.show import choose_frames, write_page
            from ipfvr.film.write import assemble, write_parts, write_photo

        equipped = job
        if job.learn:
            from ipfvr.film.learn import with_learned

            equipped = with_learned(job, analysis.plan, config)
        loaded = load_people(equipped, analysis.plan, config, reader, analysis.references, parts.words(), networks)
        parts.save_words(loaded.words)
        notes = [*remarks(job, config.video, reader), *analysis.notes, *loaded.notes, *extras.left_out]
        asides = list(loaded.asides)
        if parts.discarded:
            asides.append(f"what was there of another job was discarded; it differs in {', '.join(parts.discarded)}")
        _tell(notes)
        shown = choose_frames(analysis.plan) if page else ()
        resumed = None
        if isinstance(reader, Photo):
            write_photo(job, config, analysis, loaded, reader)
        else:
            resumed = write_parts(job, config, analysis, loaded, parts, shown)
        late = _reference_notes(analysis.plan, reader, loaded, config)
        damaged = analysis.plan.scan.damaged if analysis.plan.scan else sorted(reader.damaged)
        if analysis.plan.scan is None and damaged:  # of an aligned crop this is known at the end
            late.append(damage(reader, damaged))
        _tell(late)
        notes += late
        sound = "none" if isinstance(reader, Photo) else assemble(job, config, analysis, parts, extras)
        plan, people = analysis.plan, list(loaded.people.values())
        # One person's configuration has the person's words in it.
        used = people[0].config if len(people) == 1 else config
        networks = people[0].restorer.networks if people else None
        device, dtype = (str(networks.device), str(networks.dtype).removeprefix("torch.")) if networks else ("", "")
        report = {
            "input": str(job.source),
            "output": str(job.output),
            "command": command_of(job, config),
            "frames": plan.stop - plan.start,
            "restored": plan.restored(),
            "clips": plan.clips(config),
            "sound": sound,
            "left_out": list(extras.left_out),
            "cuts": plan.scan.cuts if plan.scan else [],
            "damaged_frames": damaged,
            "faceless": plan.scan.faceless(plan.start, plan.stop) if plan.scan else [],
            "left_alone": [
                {"start": max(track.start, plan.start), "stop": min(track.stop, plan.stop)}
                for track in plan.left_alone()
            ],
            "people": _people(plan, loaded),
            "tracks": _tracks(plan, config.video.size),
            "notes": [*notes, *asides],
            "resumed_at": resumed,
            "dtype": dtype,
            "seconds": round(time.monotonic() - began, 3),
            "peak_memory_mb": peak_memory_mb(),
            # Of a job for one person, that person's record: what a reader looks for first.
            **(next(iter(loaded.records.values())) if len(loaded.records) == 1 else {}),
            "inputs": digest(inputs),
            **provenance(used, config.seed, {**analysis.files, **loaded.files}, device),
        }
        write_json(job.output.with_suffix(".json"), report)
        if page is not None:
            if isinstance(reader, Photo):
                before, after = {i: reader.image for i in shown}, {i: read_image(job.output) for i in shown}
            else:
                before = parts.sources()
                after = pick_frames(job.output, before)
            write_page(page, report, plan, reader, before, after, analysis.references, job.square)
        finished = True
        return report
    except UserError:
        refused = True
        raise
    finally:
        parts.close(finished, refused)


def is_finished(job: Job, config: Config) -> dict[str, Any] | None:
    """The report of an earlier run that was asked for the very same, if its output is there."""
    report = job.output.with_suffix(".json")
    if not (job.output.is_file() and report.is_file() and job.source.is_file()):
        return None
    from ipfvr.film.inputs import job_inputs

    try:
        content = json.loads(report.read_text())
    except ValueError:
        return None
    return content if content.get("inputs") == digest(job_inputs(job, config)) else None


def peak_memory_mb() -> int:
    """The most memory this process has had, MB; on a GPU its own is not counted."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def _people(plan: Plan, loaded: LoadedPeople) -> dict[str, dict[str, Any]]:
    """Of everybody: where they were found, and how they were restored."""
    return {who: {**found, **loaded.records[who]} for who, found in plan.appearances().items()}


def _reference_notes(plan: Plan, reader: VideoReader, loaded: LoadedPeople, config: Config) -> list[str]:
    """Measure what each person's references changed, into the records; a line for each that hardly changed anything."""
    from ipfvr.film.effect import HARDLY, reference_changes

    notes = []
    for who, change in reference_changes(plan, reader, loaded, config).items():
        loaded.records[who]["reference_change"] = round(change, 3)
        if change < HARDLY:
            whose = f"the reference of {who}" if who else "the reference"
            do = "" if who in loaded.plain else "; --learn learns the face from it first"
            notes.append(f"{whose} changes {change:.2f} grey levels of the face on average: nobody will see it{do}")
    return notes


def _tell(notes: list[str]) -> None:
    for note in notes:
        _log.info("note: %s", note)


def _tracks(plan: Plan, size: int) -> list[dict[str, Any]]:
    """Every stretch of frames in which a face was restored."""
    return [
        {
            "who": presence.who,
            "start": presence.start,
            "stop": presence.stop,
            "cosine": None if presence.cosine is None else round(presence.cosine, 4),
            "width": round(presence.width(size), 1),
        }
        for presence in plan.presences
    ]
