"""Checks of a job that run before any work begins."""

from __future__ import annotations

from ipfvr.core.errors import UserError
from ipfvr.film.job import SCALES, TREATMENTS, Job
from ipfvr.film.source import check_ending
from ipfvr.video.reader import VideoReader


def check_job(job: Job, reader: VideoReader) -> None:
    """Reject a job that cannot be done, before any work begins.

    Raises:
        UserError: a reference is missing, the output is the input or of another kind, an ``aligned`` input is not
            square, options exclude each other, or the part lies outside the video.
    """
    info = reader.info
    for person in job.everybody:
        if not person.references:
            raise UserError(f"{person.name} has no reference: give --reference {person.name}=PICTURE")
        for path in person.references:
            if not path.is_file():
                raise UserError(f"there is no reference picture {path}")
    if job.learn and not job.everybody:
        raise UserError("--learn learns from reference pictures: give --reference PICTURE")
    if job.people and job.references:
        raise UserError("some references have a name and some have none: name all of them, such as anna=a.jpg")
    if job.square and len(job.everybody) > 1:
        raise UserError("--crop and --aligned show one face: give the references of one person, or leave --crop out")
    if job.square and job.scale != 1:
        raise UserError("--scale enlarges whole frames and cannot be combined with --crop or --aligned")
    if job.scale not in SCALES or job.others not in ("", *TREATMENTS):
        raise UserError(
            f"--scale {job.scale} --others {job.others}: use one of {SCALES} and of {', '.join(TREATMENTS)}"
        )
    if not 0 <= job.strength <= 1:
        raise UserError(f"--strength {job.strength:g} is not between 0 (no change) and 1 (the full change)")
    if not job.output.is_dir():
        check_ending(reader, job.output)
    if job.output.exists() and job.output.samefile(job.source):
        raise UserError(f"{job.output} is the input itself; choose another output")
    if reader.fields and (job.square or job.scale != 1):
        raise UserError(
            "video.interlaced=keep needs whole frames at their own size: leave out either it, or --crop and --scale"
        )
    if job.aligned and info.width != info.height:
        raise UserError(
            f"{job.source} is {info.width} x {info.height}, not a square aligned crop: leave --aligned out, "
            "or make crops with python -m ipfvr.crop"
        )
    if job.part and not 0 <= job.part[0] < job.part[1] <= info.frames:
        raise UserError(f"--frames {job.part[0]}:{job.part[1]} is not inside the {info.frames} frames of {job.source}")
