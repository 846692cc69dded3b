"""Restore one video or picture: analyse it, plan, restore it part by part, and join the parts."""

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
from ipfvr.film.source import open_source, remarks, source_extras
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

    Finished parts are kept in a hidden folder beside the output (:mod:`ipfvr.film.parts`): after a kill the same call
    resumes from them and gives the same bytes.

    Args:
        job: what to restore.
        config: the configuration.
        page: the path of the page with frames before and after; None: no page is written.
        networks: the networks of earlier jobs with the same configuration; those loaded now are added to the list.

    Returns:
        The content of the JSON beside the output.

    Raises:
        UserError: an input, reference, output or file of weights cannot be used, a person is not in the video, or the
            disk is full.
    """
    began = time.monotonic()
    reader = open_source(job.source, config.video)
    check_job(job, reader)
    check_writable(job.output)
    extras = source_extras(reader, job.output)
    # Imported here: this takes seconds, and a user's mistakes are reported before.
    from ipfvr.film.analysis import analyse, damage_note
    from ipfvr.film.inputs import job_inputs

    inputs = job_inputs(job, config)
    parts = Parts(job.output, inputs)
    finished = refused = False
    try:
        analysis = analyse(job, config, reader, parts)
        # Imported here: a person who is not in the video is reported before the restorer's packages are loaded.
        with importing():
            from ipfvr.film.people import load_people
            from ipfvr.film.show import choose_frames, write_page
            from ipfvr.film.write import assemble, write_parts, write_photo

        job_with_loras = job
        if job.learns(config):
            from ipfvr.film.learn import with_learned

            job_with_loras = with_learned(job, analysis.plan, config)
        loaded = load_people(
            job_with_loras, analysis.plan, config, reader, analysis.references, parts.words(), networks
        )
        parts.save_words(loaded.words)
        notes = [*remarks(job, config.video, reader), *analysis.notes, *loaded.notes, *extras.left_out]
        asides = list(loaded.asides)
        if parts.discarded:
            asides.append(f"the parts of a different job were discarded; it differs in {', '.join(parts.discarded)}")
        _log_notes(notes)
        shown = choose_frames(analysis.plan) if page else ()
        resumed = None
        if isinstance(reader, Photo):
            write_photo(job, config, analysis, loaded, reader)
        else:
            resumed = write_parts(job, config, analysis, loaded, parts, shown)
        later_notes = _reference_notes(analysis.plan, reader, loaded, config)
        damaged = analysis.plan.scan.damaged if analysis.plan.scan else sorted(reader.damaged)
        if analysis.plan.scan is None and damaged:  # an aligned crop is not scanned, so this is known only now
            later_notes.append(damage_note(reader, damaged))
        _log_notes(later_notes)
        notes += later_notes
        sound = "none" if isinstance(reader, Photo) else assemble(job, config, analysis, parts, extras)
        plan, people = analysis.plan, list(loaded.people.values())
        # The configuration of a single person holds the person's words.
        used = people[0].config if len(people) == 1 else config
        first = people[0].restorer.networks if people else None
        device, dtype = (str(first.device), str(first.dtype).removeprefix("torch.")) if first else ("", "")
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
            # The record of a single person also stands at the top, where a reader looks first.
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
    """Return the report of an earlier run of exactly this job; None: there is none, or its output is gone."""
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
    """Return the peak memory of this process in MB, without GPU memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def _people(plan: Plan, loaded: LoadedPeople) -> dict[str, dict[str, Any]]:
    """Return where each person was found and how the person was restored."""
    return {who: {**found, **loaded.records[who]} for who, found in plan.appearances().items()}


def _reference_notes(plan: Plan, reader: VideoReader, loaded: LoadedPeople, config: Config) -> list[str]:
    """Record how much each person's references change; return a note for each that changes nearly nothing."""
    from ipfvr.film.effect import HARDLY, reference_changes

    notes = []
    for who, change in reference_changes(plan, reader, loaded, config).items():
        loaded.records[who]["reference_change"] = round(change, 3)
        if change < HARDLY:
            whose = f"the reference of {who}" if who else "the reference"
            advice = "" if who in loaded.plain else "; --learn learns the face from it first"
            notes.append(
                f"{whose} changes the face by {change:.2f} grey levels on average, which nobody can see{advice}"
            )
    return notes


def _log_notes(notes: list[str]) -> None:
    for note in notes:
        _log.info("note: %s", note)


def _tracks(plan: Plan, size: int) -> list[dict[str, Any]]:
    """Return every stretch of frames in which a face was restored."""
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
