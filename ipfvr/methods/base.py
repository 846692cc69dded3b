"""The interface of a table's row: a method that reads one low-quality clip and writes a folder of restored frames."""

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
        name: a name that is unique in an experiment, such as ``id13_c04_heavy``.
        identity: the person in the clip.
        low: the low-quality video or folder of frames: square aligned crops.
        size: the side of the output frames, pixels.
        frames: the number of frames of the clip and of the output.
        fps: the frame rate, frames per second.
        references: pictures of the person: aligned crops, or other pictures with one face.
        prompt: the person's ``prompt.yaml``.
        lora: the folder of the person's LoRA.
        seed: the seed of the noise.
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
    """The report of a method on one clip.

    Attributes:
        seconds: wall-clock time, including the time to load networks if this clip loaded them.
        frames: the number of frames that were written.
        notes: notes for the reader of the scores, such as ``3 missing frames repeated``.
        weights: the files of weights that were loaded, by part.
        command: the command line that ran, or one that does the same.
    """

    seconds: float
    frames: int
    notes: tuple[str, ...] = ()
    weights: dict[str, Path] = field(default_factory=dict)
    command: str = ""


class Method(Protocol):
    """A method of a table's row; :func:`ipfvr.methods.catalogue.make_method` makes one.

    Attributes:
        name: the name in experiment files.
        title: the name in the paper's tables.
        licence: the licence of its code and weights.
        family: the kind of method, such as ``video, by reference``.
    """

    name: str
    title: str
    licence: str
    family: str

    def missing(self) -> str | None:
        """Return None if the method can run; else one line that says why not and what to do."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return everything but the case that the result depends on, as JSON values for the hash of a cell."""
        ...

    def restore(self, case: Case, output: Path) -> Report:
        """Write ``case.frames`` frames of ``case.size`` pixels a side to the folder ``output``, from ``000000.png`` on.

        The folder appears only when it is complete, and replaces an earlier one.

        Raises:
            UserError: the method cannot run or has failed, the clip differs from the case, or the output has another
                number or size of frames.
        """
        ...


def low_frames(case: Case) -> Iterator[np.ndarray]:
    """Read the low-quality frames of a case, (h, h, 3) uint8 RGB.

    Raises:
        UserError: the number of frames differs from the case, or the frames are not square.
    """
    clip = Clip(case.name, case.low)
    if clip.frames != case.frames:
        raise UserError(f"{case.low} has {clip.frames} frames, but the case {case.name} expects {case.frames}")
    if clip.size[0] != clip.size[1]:
        raise UserError(f"{case.low} is {clip.size[0]} x {clip.size[1]}: methods restore square face crops")
    yield from clip


def write_frames(frames: Iterable[np.ndarray], case: Case, output: Path) -> None:
    """Write the output of a method, completely or not at all.

    Args:
        frames: the frames in order, uint8 RGB.
        case: gives their number and size.
        output: the folder.

    Raises:
        UserError: the frames have another number or size.
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
