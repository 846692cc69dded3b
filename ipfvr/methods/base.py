"""What a table's row is: a method that takes one low-quality clip and writes a folder of restored frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.files import whole_folder
from ipfvr.video.footage import Clip
from ipfvr.video.writer import write_picture


@dataclass(frozen=True)
class Case:
    """One clip that a method restores.

    Attributes:
        name: unique in an experiment, such as ``id13_c04_heavy``.
        identity: who is in it.
        low: the low-quality video, or folder of frames: square aligned crops.
        size: side of the frames asked for, pixels.
        frames: how many frames must come back.
        fps: frames a second.
        references: pictures of the person, aligned crops or any others with one face.
        prompt: a ``prompt.yaml``.
        lora: folder of a LoRA of this person.
        seed: of the noise.
    """

    name: str
    identity: str
    low: Path
    size: int
    frames: int
    fps: Fraction | float
    references: tuple[Path, ...] = ()
    prompt: Path | None = None
    lora: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """What a method did.

    Attributes:
        seconds: wall clock, loading included where the clip caused it.
        frames: written.
        notes: what a reader of the number should know, such as ``3 missing frames repeated``.
        weights: the files that were loaded, by part.
        command: the command line that ran, or that runs the same.
    """

    seconds: float
    frames: int
    notes: tuple[str, ...] = ()
    weights: dict[str, Path] = field(default_factory=dict)
    command: str = ""


class Method(Protocol):
    """What a table's row runs; :func:`ipfvr.methods.catalogue.make_method` makes one.

    Attributes:
        name: what experiments call it.
        title: what the paper's tables call it.
        licence: of its code and weights.
        family: what kind of method it is, such as ``video, by reference``.
    """

    name: str
    title: str
    licence: str
    family: str

    def missing(self) -> str | None:
        """None where it can run; else one line: why not, and what would make it run."""
        ...

    def settings(self) -> dict[str, Any]:
        """What a result depends on beside the case, for the hash of a finished cell; ready for JSON."""
        ...

    def restore(self, case: Case, output: Path) -> Report:
        """Write ``000000.png`` to the folder ``output``: ``case.frames`` frames of ``case.size`` pixels a side.

        The folder has its name only when it is whole; one that was there is replaced.

        Raises:
            UserError: it cannot run or has failed, the clip is not as the case says, or what came out is not frame
                for frame what was asked for.
        """
        ...


def low_frames(case: Case) -> Iterator[np.ndarray]:
    """The case's low-quality frames, (h, h, 3) uint8 RGB.

    Raises:
        UserError: another number of frames than the case says, frames that are not square.
    """
    clip = Clip(case.name, case.low)
    if clip.frames != case.frames:
        raise UserError(f"{case.low} has {clip.frames} frames, the case {case.name} says {case.frames}")
    if clip.size[0] != clip.size[1]:
        raise UserError(f"{case.low} is {clip.size[0]} x {clip.size[1]}: methods restore square face crops")
    yield from clip


def write_frames(frames: Iterable[np.ndarray], case: Case, output: Path) -> None:
    """Write a method's result, whole or not at all.

    Args:
        frames: in order, uint8 RGB.
        case: says how many there are and how large they are.
        output: the folder.

    Raises:
        UserError: another number or another size.
    """
    count = 0
    with whole_folder(output) as folder:
        for frame in frames:
            if frame.shape != (case.size, case.size, 3):
                height, width = frame.shape[:2]
                raise UserError(f"{case.name}: frame {count} came back {width} x {height}, not {case.size} on a side")
            write_picture(folder / f"{count:06d}.png", frame)
            count += 1
        if count != case.frames:
            raise UserError(f"{case.name}: {count} frames came back, not {case.frames}")
