"""What is to be restored, and for whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ipfvr.errors import UserError
from ipfvr.options import Config
from ipfvr.video.mux import CONTAINERS
from ipfvr.video.reader import VideoReader

SCALES = (1, 2, 4)
OTHERS = ("leave", "restore")


@dataclass(frozen=True)
class Person:
    """Somebody to look for.

    Attributes:
        name: empty: the one person of a job without names.
        references: pictures of the person.
        lora: the person's LoRA folder; empty: none of their own.
        prompt: a prompt.yaml with words by hand; empty: none of their own.
    """

    name: str
    references: tuple[Path, ...] = ()
    lora: str = ""
    prompt: str = ""

    def config(self, config: Config) -> Config:
        """The configuration with the person's own LoRA and words."""
        weights = replace(config.weights, lora=self.lora or config.weights.lora)
        return replace(config, weights=weights, prompt=replace(config.prompt, file=self.prompt or config.prompt.file))


@dataclass(frozen=True)
class Job:
    """One restoration.

    Attributes:
        source: the low-quality video.
        output: the restored video; its JSON lies beside it.
        references: pictures of the one person without a name.
        people: people with names; not together with ``references``.
        others: what becomes of faces of nobody that was named: ``leave`` or ``restore``; empty: left alone where
            there are references, restored where there are none.
        aligned: the source is a square aligned crop.
        crop: write the main face's restored square instead of the whole frame.
        scale: the frame is enlarged by this: 1, 2 or 4.
        strength: share of the restoration's change that is put onto the frames, 0 to 1.
        face: which face of a reference with several, counted from the left, from 1; 0: there is but one.
        part: (start, stop) frames to restore; None: all.
    """

    source: Path
    output: Path
    references: tuple[Path, ...] = ()
    people: tuple[Person, ...] = ()
    others: str = ""
    aligned: bool = False
    crop: bool = False
    scale: int = 1
    strength: float = 1.0
    face: int = 0
    part: tuple[int, int] | None = None

    @property
    def cast(self) -> tuple[Person, ...]:
        """Everybody to look for: the named, or the one without a name, or nobody."""
        return self.people or ((Person("", self.references),) if self.references else ())

    @property
    def square(self) -> bool:
        """Whether the output is the face's square."""
        return self.aligned or self.crop

    @property
    def restores_others(self) -> bool:
        """Whether faces of nobody that was named are restored."""
        return self.others == "restore" or (not self.others and not self.cast)


def check_job(job: Job, reader: VideoReader) -> None:
    """Say what cannot be, before any work.

    Raises:
        UserError: a reference that is not there, an output that is the input or no video's name, an input that is not
            square though ``aligned``, options that exclude each other, a part outside of the video.
    """
    info = reader.info
    for person in job.cast:
        if not person.references:
            raise UserError(f"{person.name} has no reference: give --reference {person.name}=PICTURE")
        for path in person.references:
            if not path.is_file():
                raise UserError(f"no reference picture {path}")
    if job.people and job.references:
        raise UserError("some references have a name and some have none: name them all, such as anna=a.jpg")
    if job.square and len(job.cast) > 1:
        raise UserError("a square shows one face: give the references of one person, or leave --crop out")
    if job.square and job.scale != 1:
        raise UserError("--scale enlarges whole frames: it does not go with --crop or --aligned")
    if job.scale not in SCALES or job.others not in ("", *OTHERS):
        raise UserError(f"--scale {job.scale} --others {job.others}: take one of {SCALES} and of {', '.join(OTHERS)}")
    if not 0 <= job.strength <= 1:
        raise UserError(f"--strength {job.strength:g} is not between 0 (nothing is changed) and 1 (all of it)")
    if not job.output.is_dir() and job.output.suffix.lower() not in CONTAINERS:
        raise UserError(f"cannot write {job.output}: its name must end in {', '.join(CONTAINERS)}")
    if job.output.exists() and job.output.samefile(job.source):
        raise UserError(f"{job.output} is the input itself; choose another output")
    if job.aligned and info.width != info.height:
        raise UserError(
            f"{job.source} is {info.width} x {info.height}, not a square aligned crop: leave --aligned out, "
            "or make crops with python -m ipfvr.crop"
        )
    if job.part and not 0 <= job.part[0] < job.part[1] <= info.frames:
        raise UserError(f"--frames {job.part[0]}:{job.part[1]} is not inside the {info.frames} frames of {job.source}")
