"""The second pass: restore frames into parts and join the parts to the output; a picture is written at once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from ipfvr.core.errors import UserError
from ipfvr.core.files import reason_of
from ipfvr.core.messages import progress_bar
from ipfvr.core.options import Config
from ipfvr.film.analysis import Analysis
from ipfvr.film.job import Job
from ipfvr.film.parts import Parts
from ipfvr.film.people import LoadedPeople
from ipfvr.film.source import colours_of
from ipfvr.film.stream import Canvas, FilmStream, Frames, Square
from ipfvr.video.mux import Extras, join
from ipfvr.video.photo import Photo
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter, fits, odd_size

NOTE = "AI-restored with ipfvr"  # in the comment of every output file


def canvas_for(job: Job, config: Config, reader: VideoReader) -> Canvas:
    """Choose the canvas that makes the output frames."""
    if job.square:
        return Square(config.video.size, job.strength)
    return Frames(reader.info.width, reader.info.height, job.scale, job.strength)


def write_parts(
    job: Job,
    config: Config,
    analysis: Analysis,
    loaded: LoadedPeople,
    parts: Parts,
    shown: Collection[int] = (),
) -> int | None:
    """Restore the parts that are not finished yet.

    Args:
        job, config, analysis, loaded, parts: the job.
        shown: frames of the source to keep in ``parts``, which the page shows beside the restored ones.

    Returns:
        The frame at which this run resumed an earlier one; None: this run restored everything.
    """
    plan, reader = analysis.plan, analysis.reader
    missing = [(a, b) for a, b in plan.parts if not parts.done(a)]
    if not missing:
        return plan.stop
    start = missing[0][0]
    steps, canvas = loaded.steps, canvas_for(job, config, reader)
    aspect = Fraction(1) if job.square else reader.info.sample_aspect_ratio
    with progress_bar(plan.clips(config) * steps, "restoring", "step") as bar:
        stream = FilmStream(reader, plan, loaded.people, canvas, config, start, bar.update, parts.memories(start))
        bar.update(bar.total - stream.clips * steps)
        for a, b in missing:
            times = []
            with VideoWriter(
                parts.path(a),
                canvas.width,
                canvas.height,
                reader.info.rate,
                crf=config.video.crf,
                preset=config.video.preset,
                sample_aspect_ratio=aspect,
                fields=reader.fields,
                pixel_format=colours_of(job, config.video, reader)[0],
            ) as writer:
                for index in range(a, b):
                    image, pts = stream.next()
                    if index in shown:
                        parts.save_source(index, stream.source)
                    writer.write(image)
                    times.append(pts)
                parts.save_times(a, times)
                parts.save_memories(b, stream.memories())
            parts.forget_memories(b)
    return None if start == plan.start else start


def write_photo(job: Job, config: Config, analysis: Analysis, loaded: LoadedPeople, photo: Photo) -> None:
    """Restore a picture and write it.

    Args:
        job, config, analysis, loaded: the job.
        photo: the source.

    Raises:
        UserError: the quality is outside 1 to 100, or the file cannot be written.
    """
    if not 1 <= config.video.quality <= 100:
        raise UserError(f"video.quality={config.video.quality} is not between 1 and 100")
    canvas = canvas_for(job, config, photo)
    with progress_bar(analysis.plan.clips(config) * loaded.steps, "restoring", "step") as bar:
        image, _ = FilmStream(photo, analysis.plan, loaded.people, canvas, config, 0, bar.update).next()
    photo.write(job.output, image, config.video.quality, NOTE, job.square)


def assemble(job: Job, config: Config, analysis: Analysis, parts: Parts, extras: Extras) -> str:
    """Join the frames of all parts, with their times, and the source's sound and other streams to the output.

    Returns:
        What happened to the sound, in the words of :class:`VideoWriter`.
    """
    plan, reader = analysis.plan, analysis.reader
    begins = [a for a, _ in plan.parts]
    times = [pts for a in begins for pts in parts.times(a)]
    info = reader.info
    rate = Fraction(info.rate).limit_denominator(100_000)
    step = max(1, round(1 / (rate * info.time_base)))
    sound = fits(reader, times[0], times[-1], info.time_base, rate)
    if sound != "copied":
        extras = replace(extras, streams=(), chapters=False)

    def when(count: int) -> int:
        return times[count] if count >= 0 else times[0] + count * step

    # Decoding times advance by one frame a packet and precede the display times by the largest lead of any part. A part
    # of one or two frames has no lead of its own, and the next part would otherwise begin before it.
    ahead = max(_ahead(parts.path(a), rate) for a in begins)
    decoded = itertools.count(-ahead)

    def retime(number: int, packet: av.Packet) -> None:
        # Each part counts its frames from 0.
        shown = begins[number] - plan.start + round(packet.pts * packet.time_base * rate)
        packet.time_base = info.time_base
        packet.pts, packet.dts = when(shown), when(next(decoded))
        packet.duration = step

    canvas = canvas_for(job, config, reader)
    colours, _ = colours_of(job, config.video, reader)
    before = extras.metadata.get("comment", "")
    comment = before if NOTE in before else "; ".join(filter(None, [before, NOTE]))
    metadata = {"comment": comment, **odd_size(canvas.width, canvas.height, colours)}
    try:
        # In the parts' folder, which is removed at the end, so that a kill leaves no stray file.
        whole = parts.folder / "whole"
        pictures = [parts.path(a) for a in begins]
        join(whole, job.output.suffix.lower(), pictures, retime, info.time_base, metadata, extras)
        os.replace(whole, job.output)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise UserError(f"the parts cannot be joined to {job.output}: {reason_of(error)}") from None
    return sound if extras.sound else "none"


def _ahead(part: Path, rate: Fraction) -> int:
    """Return how many frames before its display time the first frame of a part is decoded."""
    with av.open(str(part)) as container:
        stream = container.streams.video[0]
        first = next(packet for packet in container.demux(stream) if packet.dts is not None)
        return max(0, round((first.pts - first.dts) * first.time_base * rate))
