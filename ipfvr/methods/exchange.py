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

CRF = 1  # for the video that a program reads; the loss of H.264 is then below one grey level


@dataclass(frozen=True)
class Run:
    """One call of a program.

    Attributes:
        start: the number of its first frame in the clip.
        count: the number of its frames.
        values: the values of the placeholders in its command.
    """

    start: int
    count: int
    values: dict[str, Any]


def prepare(
    description: Description, settings: ProgramConfig, case: Case, low: list[np.ndarray], folder: Path
) -> list[Run]:
    """Write the input files of a program.

    Args:
        description: the description of the program.
        settings: gives the folder of landmarks.
        case: the clip.
        low: the frames of the clip, (h, h, 3) uint8.
        folder: an empty folder; each run gets a folder in it for its input and its output.

    Raises:
        UserError: the clip has fewer frames than the program needs, or there are too few references.
    """
    rule, side = description.input, _side(description, case, low)
    pictures = _references(description, settings, case, folder)
    runs = []
    for start, stop in _cut(len(low), rule.at_once, rule.least, case.name):
        run_folder = folder / f"run{start}"
        run_folder.mkdir()
        frames = [_fit(frame, side) for frame in low[start:stop]]
        values = {"output": run_folder / "output", "name": "clip", "frames": stop - start, **pictures}
        values["scale"] = max(1, round(case.size / side))
        if rule.kind == "video":
            values["input"] = run_folder / "clip.mp4"
            write_video(values["input"], frames, case.fps, CRF)
        else:
            values["input"] = run_folder / "clip"
            values["input"].mkdir()
            for index, frame in enumerate(frames):
                write_picture(values["input"] / f"{index:08d}.png", frame)
        line = rule.line if "references" in pictures else (rule.line_alone or rule.line)
        if line:
            values["list"] = run_folder / "list.txt"
            files = sorted(values["input"].iterdir())
            values["list"].write_text("".join(line.format(frame=file, **pictures) + "\n" for file in files))
        runs.append(Run(start, stop - start, values))
    return runs


def collect(description: Description, case: Case, run: Run, notes: list[str]) -> list[np.ndarray]:
    """Read the output of a run: one frame (size, size, 3) uint8 for each input frame.

    Args:
        description: the description of the program.
        case: the clip.
        run: the finished run.
        notes: gets a note if missing frames are repeated.

    Raises:
        UserError: the program wrote nothing, more or fewer frames than its input, pictures that are too small to crop,
            or pictures of another size that must not be resized.
    """
    rule = description.output
    pattern = rule.pattern.format_map({**description.values, **run.values})
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
        raise UserError(f"it wrote frames that are not in its input: {_listed(extra)} of {run.count}")
    missing = [index for index in range(run.count) if index not in found]
    if missing:
        if rule.missing == "refuse" or len(missing) > rule.most_missing * run.count:
            raise UserError(f"{len(missing)} of {run.count} frames are missing: {_listed(missing)}")
        numbers = _listed([run.start + index for index in missing])
        notes.append(f"{len(missing)} missing frame{'s' * (len(missing) > 1)} repeated ({numbers})")
        for index in missing:
            # In rising order the previous frame exists by now, unless the clip begins with missing frames.
            found[index] = found[index - 1] if index - 1 in found else found[min(i for i in found if i > index)]
    return [_finished(found[index], description, case) for index in range(run.count)]


def _side(description: Description, case: Case, low: list[np.ndarray]) -> int:
    named = {"low": low[0].shape[0], "full": case.size}
    return named[description.input.side] if description.input.side in named else int(description.input.side)


def _fit(frame: np.ndarray, side: int) -> np.ndarray:
    return frame if frame.shape[0] == side else resize_frame(frame, side, side)


def _cut(frames: int, at_once: int, least: int, name: str) -> list[tuple[int, int]]:
    """Split a clip into (start, stop) of as few runs as possible, of nearly equal length, so that none is too short."""
    count = -(-frames // at_once) if at_once else 1
    borders = [round(i * frames / count) for i in range(count + 1)]
    parts = list(pairwise(borders))
    if min(stop - start for start, stop in parts) < least:
        raise UserError(f"it needs at least {least} frames, but {name} has {frames}")
    return parts


def _references(description: Description, settings: ProgramConfig, case: Case, folder: Path) -> dict[str, Path]:
    """Write the folders of references and landmarks that the program needs; empty: it runs without them."""
    rule = description.references
    if not rule.least:
        return {}
    marks = {path: _landmarks(settings, case, path) for path in case.references}
    usable = [path for path in case.references if not rule.landmarks or marks[path] is not None]
    if not usable:
        if description.input.line_alone:
            return {}
        need = "a reference with landmarks" if rule.landmarks else "a reference"
        raise UserError(f"it needs {need}, but the case has none")
    folders = {name: folder / name for name in ("references", "landmarks")}
    for made in folders.values():
        made.mkdir()
    for number in range(max(rule.least, len(usable))):
        path = usable[number % len(usable)]
        write_picture(folders["references"] / f"{number}.png", _square(read_image(path), rule.side, path))
        if rule.landmarks:
            shutil.copyfile(marks[path], folders["landmarks"] / f"{number}.png.txt")
    return folders


def _landmarks(settings: ProgramConfig, case: Case, picture: Path) -> Path | None:
    """Return the path ``<landmarks>/<identity>/<picture>.txt``; None: there is no such file."""
    if not settings.landmarks:
        return None
    path = Path(settings.landmarks).expanduser() / case.identity / f"{picture.name}.txt"
    return path if path.is_file() else None


def _square(image: np.ndarray, side: int, name: Path) -> np.ndarray:
    if image.shape[0] != image.shape[1]:
        raise UserError(f"reference {name} is not square, and programs get references unchanged: crop it first")
    return _fit(image, side)


def _numbered(paths: list[Path], pattern: str) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    for path in paths:
        match = re.fullmatch(pattern, path.stem)
        if match is None:
            raise UserError(f"it wrote {path.name}, whose name holds no frame number ({pattern})")
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
                f"it wrote {image.shape[1]} x {image.shape[0]}, too small to crop {width} x {height} at {x}, {y}"
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
