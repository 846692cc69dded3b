"""The input and output files of an external program, as its description defines them."""

from __future__ import annotations

import glob
import re
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.options import ProgramConfig
from ipfvr.core.pixels import resize_frame
from ipfvr.methods.base import Case
from ipfvr.methods.description import Description
from ipfvr.video.footage import PICTURES
from ipfvr.video.reader import read_frames, read_image
from ipfvr.video.writer import write_picture, write_video

CRF = 1  # of a video that a program reads: what H.264 loses at it is below a grey level


@dataclass(frozen=True)
class Run:
    """One call of a program.

    Attributes:
        start: number of its first frame in the clip.
        count: how many frames it gets.
        places: what stands for the places of its command.
    """

    start: int
    count: int
    places: dict[str, Any]


def prepare(
    description: Description, settings: ProgramConfig, case: Case, low: list[np.ndarray], room: Path
) -> list[Run]:
    """Write what a program reads.

    Args:
        description: of the program.
        settings: where landmarks lie.
        case: the clip.
        low: its frames, (h, h, 3) uint8.
        room: an empty folder; each run gets a folder in it, and an output that is not there yet.

    Raises:
        UserError: fewer frames than the program can take, too few references.
    """
    rule, side = description.input, _side(description, case, low)
    pictures = _references(description, settings, case, room)
    runs = []
    for start, stop in _cut(len(low), rule.at_once, rule.least, case.name):
        folder = room / f"run{start}"
        folder.mkdir()
        frames = [_fit(frame, side) for frame in low[start:stop]]
        places = {"output": folder / "output", "name": "clip", "frames": stop - start, **pictures}
        places["scale"] = max(1, round(case.size / side))
        if rule.kind == "video":
            places["input"] = folder / "clip.mp4"
            write_video(places["input"], frames, case.fps, CRF)
        else:
            places["input"] = folder / "clip"
            places["input"].mkdir()
            for index, frame in enumerate(frames):
                write_picture(places["input"] / f"{index:08d}.png", frame)
        line = rule.line if "references" in pictures else (rule.line_alone or rule.line)
        if line:
            places["list"] = folder / "list.txt"
            files = sorted(places["input"].iterdir())
            places["list"].write_text("".join(line.format(frame=file, **pictures) + "\n" for file in files))
        runs.append(Run(start, stop - start, places))
    return runs


def collect(description: Description, case: Case, run: Run, notes: list[str]) -> list[np.ndarray]:
    """Read what a run has written: one frame (size, size, 3) uint8 for each that it got.

    Args:
        description: of the program.
        case: the clip.
        run: the run, which has ended.
        notes: where frames are missing and repeated, a line is added.

    Raises:
        UserError: nothing was written, more or fewer frames than it got, pictures that are smaller than the part to
            cut out or, where they must not be resized, of another size.
    """
    rule = description.output
    pattern = rule.pattern.format_map({**description.values, **run.places})
    paths = [Path(path) for path in sorted(glob.glob(pattern))]
    if not paths:
        raise UserError(f"it wrote nothing at {rule.pattern}")
    if rule.kind == "video":
        if len(paths) > 1:
            raise UserError(f"it wrote {len(paths)} videos at {rule.pattern}, not one")
        found = dict(enumerate(read_frames(paths[0])))
    else:
        found = _numbered([path for path in paths if path.suffix.lower() in PICTURES], rule.number)
    if extra := sorted(set(found) - set(range(run.count))):
        raise UserError(f"it wrote frames that it was not given: {_listed(extra)} of {run.count}")
    gone = [index for index in range(run.count) if index not in found]
    if gone:
        if rule.missing == "refuse" or len(gone) > rule.most_missing * run.count:
            raise UserError(f"{len(gone)} of {run.count} frames are missing: {_listed(gone)}")
        numbers = _listed([run.start + index for index in gone])
        notes.append(f"{len(gone)} missing frame{'s' * (len(gone) > 1)} repeated ({numbers})")
        for index in gone:
            # Rising: the frame before is there by now, unless the clip begins with missing ones.
            found[index] = found[index - 1] if index - 1 in found else found[min(i for i in found if i > index)]
    return [_finished(found[index], description, case) for index in range(run.count)]


def _side(description: Description, case: Case, low: list[np.ndarray]) -> int:
    named = {"low": low[0].shape[0], "full": case.size}
    return named[description.input.side] if description.input.side in named else int(description.input.side)


def _fit(frame: np.ndarray, side: int) -> np.ndarray:
    return frame if frame.shape[0] == side else resize_frame(frame, side, side)


def _cut(frames: int, at_once: int, least: int, name: str) -> list[tuple[int, int]]:
    """(start, stop) of the runs: as few as possible, as equally long as possible, so that none is too short."""
    count = -(-frames // at_once) if at_once else 1
    borders = [round(i * frames / count) for i in range(count + 1)]
    parts = list(pairwise(borders))
    if min(stop - start for start, stop in parts) < least:
        raise UserError(f"it needs {least} frames or more, {name} has {frames}")
    return parts


def _references(description: Description, settings: ProgramConfig, case: Case, room: Path) -> dict[str, Path]:
    """Folders of references and landmarks as the program wants them; empty where it must do without."""
    rule = description.references
    if not rule.least:
        return {}
    marks = {path: _landmarks(settings, case, path) for path in case.references}
    there = [path for path in case.references if not rule.landmarks or marks[path] is not None]
    if not there:
        if description.input.line_alone:
            return {}
        what = "a reference with landmarks" if rule.landmarks else "a reference"
        raise UserError(f"it needs {what}, and the case has none")
    folders = {"references": room / "references", "landmarks": room / "landmarks"}
    for folder in folders.values():
        folder.mkdir()
    for number in range(max(rule.least, len(there))):
        path = there[number % len(there)]
        write_picture(folders["references"] / f"{number}.png", _square(read_image(path), rule.side, path))
        if rule.landmarks:
            shutil.copyfile(marks[path], folders["landmarks"] / f"{number}.png.txt")
    return folders


def _landmarks(settings: ProgramConfig, case: Case, picture: Path) -> Path | None:
    """``<landmarks>/<identity>/<picture>.txt``, where it is there."""
    if not settings.landmarks:
        return None
    path = Path(settings.landmarks).expanduser() / case.identity / f"{picture.name}.txt"
    return path if path.is_file() else None


def _square(image: np.ndarray, side: int, name: Path) -> np.ndarray:
    if image.shape[0] != image.shape[1]:
        raise UserError(f"reference {name} is no square crop; programs get references as they are: crop it first")
    return _fit(image, side)


def _numbered(paths: list[Path], pattern: str) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    for path in paths:
        match = re.fullmatch(pattern, path.stem)
        if match is None:
            raise UserError(f"it wrote {path.name}, whose name has no frame's number in it ({pattern})")
        number = int(match[1])
        if number in found:
            raise UserError(f"it wrote frame {number} twice")
        found[number] = read_image(path)
    return found


def _finished(image: np.ndarray, description: Description, case: Case) -> np.ndarray:
    rule = description.output
    if rule.crop:
        x, y, width, height = rule.crop
        left = x + image.shape[1] if x < 0 else x
        if left < 0 or left + width > image.shape[1] or y + height > image.shape[0]:
            raise UserError(
                f"it wrote {image.shape[1]} x {image.shape[0]}, too small to cut {width} x {height} out at {x}, {y}"
            )
        image = image[y : y + height, left : left + width]
    if image.shape[0] != image.shape[1]:
        raise UserError(f"it wrote {image.shape[1]} x {image.shape[0]} for a square face")
    if image.shape[0] != case.size and not rule.resize:
        raise UserError(f"it wrote {image.shape[1]} x {image.shape[0]}, not {case.size} on a side")
    return _fit(image, case.size)


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return shown + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
