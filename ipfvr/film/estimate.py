"""The plan of a job as text, with an estimate of time and memory from one timed clip; nothing is written."""

from __future__ import annotations

import time

import numpy as np

from ipfvr.core.options import Config
from ipfvr.core.startup import importing
from ipfvr.film.check import check_job
from ipfvr.film.job import Job
from ipfvr.film.run import peak_memory_mb
from ipfvr.film.source import open_source, remarks, source_extras
from ipfvr.video.photo import is_photo


def describe_plan(job: Job, config: Config) -> str:
    """Return what a job would do as lines of text: people, cuts, clips, time and memory.

    This runs the first pass over the video, as a restoration does. It restores one clip and multiplies the time by the
    number of clips. The memory is the peak of this process so far plus the frames of one open clip.

    Args:
        job, config: the job.

    Raises:
        UserError: as :func:`ipfvr.film.run.restore`.
    """
    reader = open_source(job.source, config.video)
    check_job(job, reader)
    extras = source_extras(reader, job.output)
    from ipfvr.film.analysis import analyse

    began = time.monotonic()
    analysis = analyse(job, config, reader, None)
    analysis_seconds = time.monotonic() - began
    plan, info = analysis.plan, reader.info
    notes = [*remarks(job, config.video, reader), *analysis.notes, *extras.left_out]
    clips = plan.clips(config)
    rate = float(info.rate)
    seconds = f"{info.frames / rate:.1f} s at {rate:.3g} a second"
    film = f"{info.frames} frames, {seconds}; {plan.stop - plan.start} to write"
    kind = "a picture" if is_photo(job.source) else film
    lines = [f"{job.source}: {info.width} x {info.height}, {kind}"]
    for who, found in plan.appearances().items():
        cosines = found["cosines"]
        like = f", mean cosine {min(cosines):.2f} to {max(cosines):.2f}" if cosines else ""
        lines.append(
            f"{who or 'the person'}: {found['frames']} frames ({found['frames'] / rate:.1f} s) in {found['tracks']} "
            f"stretches{like}"
        )
    cuts = plan.scan.cuts if plan.scan else []
    shown = ", ".join(str(cut) for cut in cuts[:12]) + (" ..." if len(cuts) > 12 else "")
    lines.append(f"cuts: {len(cuts)}{f' (frames {shown})' if cuts else ''}")
    lines.append(f"clips: {clips} of up to {config.video.clip_frames} frames, written in {len(plan.parts)} parts")
    if clips:
        with importing():
            from ipfvr.film.people import load_people
        if job.learns(config):
            from ipfvr.film.learn import to_learn

            names = ", ".join(name or "the person" for name in to_learn(job, plan, config))
            names = names or "nobody, all LoRAs are kept from before"
            lines.append(f"to learn: {names} ({config.learn.steps} steps each)")

        loaded = load_people(job, plan, config, reader, analysis.references, None)
        presence = plan.presences[0]
        window = presence.windows(config, (plan.start, plan.stop))[0]
        size = config.video.size
        grey = np.full((window.stop - window.start, size, size, 3), 128, np.uint8)
        began = time.monotonic()
        person = loaded.people[presence.who]
        person.restore(grey, range(window.start, window.stop))
        one = time.monotonic() - began
        lines.append(
            f"time: about {_duration(one * clips)} to restore ({one:.2f} s for one clip of {len(grey)} frames, timed "
            f"now on {person.restorer.networks.device}) and {_duration(analysis_seconds)} to find faces, as measured "
            "now; reading, pasting and encoding take additional time"
        )
        notes += loaded.notes
    else:
        lines.append(f"time: {_duration(analysis_seconds)} to find faces, as measured now, and the time for encoding")
    open_clip = config.video.clip_frames * info.width * info.height * 3 / 1e6
    lines.append(
        f"memory: about {peak_memory_mb() + open_clip:.0f} MB at the peak ({peak_memory_mb()} MB measured so far, "
        f"{open_clip:.0f} MB for the frames of an open clip); GPU memory is not counted"
    )
    lines += [f"note: {note}" for note in notes]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
