"""What cannot be restored as it is asked for, said before any work."""

from __future__ import annotations

from ipfvr.core.errors import UserError
from ipfvr.film.job import OTHERS, SCALES, Job
from ipfvr.film.source import check_ending
from ipfvr.video.reader import VideoReader


def check_job(job: Job, reader: VideoReader) -> None:
    """Say what cannot be, before any work.

    Raises:
        UserError: a reference that is not there, an output that is the input or of another kind, an input that is not
            square though ``aligned``, options that exclude each other, a part outside of the video.
    """
    info = reader.info
    for person in job.everybody:
        if not person.references:
            raise UserError(f"{person.name} has no reference: give --reference {person.name}=PICTURE")
        for path in person.references:
            if not path.is_file():
                raise UserError(f"no reference picture {path}")
    if job.learn and not job.everybody:
        raise UserError("--learn learns from reference pictures: give --reference PICTURE")
    if job.people and job.references:
        raise UserError("some references have a name and some have none: name them all, such as anna=a.jpg")
    if job.square and len(job.everybody) > 1:
        raise UserError("a square shows one face: give the references of one person, or leave --crop out")
    if job.square and job.scale != 1:
        raise UserError("--scale enlarges whole frames: it does not go with --crop or --aligned")
    if job.scale not in SCALES or job.others not in ("", *OTHERS):
        raise UserError(f"--scale {job.scale} --others {job.others}: take one of {SCALES} and of {', '.join(OTHERS)}")
    if not 0 <= job.strength <= 1:
        raise UserError(f"--strength {job.strength:g} is not between 0 (nothing is changed) and 1 (all of it)")
    if not job.output.is_dir():
        check_ending(reader, job.output)
    if job.output.exists() and job.output.samefile(job.source):
        raise UserError(f"{job.output} is the input itself; choose another output")
    if reader.fields and (job.square or job.scale != 1):
        raise UserError("video.interlaced=keep is for whole frames of their own size: leave it, --crop or --scale out")
    if job.aligned and info.width != info.height:
        raise UserError(
            f"{job.source} is {info.width} x {info.height}, not a square aligned crop: leave --aligned out, "
            "or make crops with python -m ipfvr.crop"
        )
    if job.part and not 0 <= job.part[0] < job.part[1] <= info.frames:
        raise UserError(f"--frames {job.part[0]}:{job.part[1]} is not inside the {info.frames} frames of {job.source}")
