"""What was chosen in the window, as the job and the configuration of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ipfvr.app.names import check_names, person_name
from ipfvr.app.project import Film, Project
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.film.job import Job, Person
from ipfvr.film.source import writable_ending


@dataclass(frozen=True)
class PersonChoice:
    """The choices for one person: the name, whether to restore, the LoRA's folder, and the words' ``prompt.yaml``."""

    name: str
    restore: bool = True
    lora: str = ""
    words: str = ""


@dataclass(frozen=True)
class Look:
    """The choices for the whole job; each is an option of the command line and has its default."""

    strength: float = 1.0
    scale: int = 1
    steps: int = 0  # 0: the preset's
    interlaced: str = "frame"
    chroma: str = "auto"
    crf: int = 17
    seed: int = 0
    face_only: bool = False
    learn: bool = False
    others: bool = False
    likeness: float = 0.0  # 0: the recogniser's own
    first: int = 0
    last: int = -1  # -1: to the end


def read_look(look: Look, base: Sequence[str]) -> Config:
    """Return the configuration of the choices.

    Args:
        look: the choices.
        base: ``key=value`` pairs that the app was started with.

    Raises:
        UserError: as :func:`ipfvr.core.config.load_config`.
    """
    plain = load_config(None, list(base))
    pairs = [f"sampler.steps={look.steps}"] if look.steps and look.steps != plain.sampler.steps else []
    pairs += [f"video.interlaced={look.interlaced}"] if look.interlaced != plain.video.interlaced else []
    pairs += [f"video.chroma={look.chroma}"] if look.chroma != plain.video.chroma else []
    pairs += [f"video.crf={look.crf}"] if look.crf != plain.video.crf else []
    pairs += [f"seed={look.seed}"] if look.seed != plain.seed else []
    pairs += [f"people.same={look.likeness:g}"] if look.likeness else []
    return load_config(None, [*base, *pairs])


def make_job(
    project: Project, number: int, chosen: Sequence[PersonChoice], look: Look, output: Path, base: Sequence[str]
) -> tuple[Job, Config]:
    """Make the job that restores one film.

    Where everybody who was found is chosen and nobody has a picture, LoRA or words, it is a job without references:
    every face is restored. Else the command line tells people apart by pictures, and whoever has none is looked for by
    their face in the film itself.

    Args:
        project: what was dropped.
        number: of the film.
        chosen: what was chosen for each of the project's people, in their order.
        look: what was chosen for all of it.
        output: the file that is written.
        base: ``key=value`` pairs that the app was started with.

    Raises:
        UserError: nobody is chosen, or a name cannot be used.
    """
    film, config = project.films[number], read_look(look, base)
    here = [(seen, c) for seen, c in zip(project.people, chosen, strict=False) if seen.frames(number)]
    wanted = [(seen, c) for seen, c in here if c.restore]
    if not wanted and not look.others:
        raise UserError(f"nobody in {film.path.name} is chosen: tick whom to restore" if here else _nobody(film))
    names = [person_name(c.name) for _, c in wanted]
    check_names(names)
    everybody = len(wanted) == len(here) and (look.others or not project.more)
    own = any(seen.pictures or c.lora or c.words for seen, c in wanted)
    people: tuple[Person, ...] = ()
    if own or not everybody:
        people = tuple(
            Person(name, tuple(seen.pictures) or (seen.still,), c.lora, c.words)
            for name, (seen, c) in zip(names, wanted, strict=True)
        )
    # A face cut out of the film says who is meant and not what the film has lost: nothing is learned from it.
    strangers = [name for name, (seen, _) in zip(names, wanted, strict=True) if not seen.pictures]
    learn = look.learn and len(strangers) < len(wanted)
    if learn and strangers:
        config = replace(config, learn=replace(config.learn, skip=strangers))
    frames = film.reader.info.frames
    last = frames if look.last < 0 else min(frames, look.last + 1)
    job = Job(
        source=film.path,
        output=output,
        people=people,
        others="restore" if people and look.others else "",
        crop=look.face_only,
        scale=look.scale,
        strength=look.strength,
        learn=learn if people else None,
        part=None if (look.first, last) == (0, frames) else (look.first, last),
    )
    return job, config


def output_name(film: Film) -> str:
    """Return the name of the restored file."""
    return f"{film.path.stem}_restored{writable_ending(film.path)}"


def _nobody(film: Film) -> str:
    return (
        f"no face was found in {film.path.name}: there is nothing to restore; lower faces.min_confidence when you "
        "start the app to find more"
    )
