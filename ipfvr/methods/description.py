"""The description of an external program as data: its inputs, its command and its output.

Each program has one YAML file in ``ipfvr/methods/programs`` or at ``methods.<name>.description``;
``docs/add_a_method.md`` is the guide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from string import Formatter

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ipfvr.core.config import load_yaml
from ipfvr.core.errors import UserError

PROGRAMS = Path(__file__).parent / "programs"
PLACEHOLDERS = (
    *("python", "folder", "input", "output", "list", "name", "scale", "size", "frames", "fps", "seed"),
    *("references", "landmarks"),
)
NEEDED = ("title", "family", "licence", "page", "install", "command")
LIST_PLACEHOLDERS = ("frame", "references", "landmarks")


@dataclass
class InputRule:
    """The input of the program."""

    kind: str = "frames"  # frames (a folder of 00000000.png ...) | video (an mp4)
    side: str = "low"  # side of a frame: low (that of the clip) | full (bicubic, the output's) | a number of pixels
    at_once: int = 0  # the most frames of one run; a longer clip is split; 0: no limit
    least: int = 1  # the fewest frames of one run
    line: str = ""  # a line of the file {list}, one for each frame, from {frame}, {references} and {landmarks}
    line_alone: str = ""  # the same line if there are not enough references


@dataclass
class ReferenceRule:
    """The references that the program needs."""

    least: int = 0  # number of pictures; fewer are repeated; 0: the program takes no references
    side: int = 512  # pixels
    landmarks: bool = False  # needs <picture>.txt with 68 lines 'x y' from methods.<name>.landmarks


@dataclass
class OutputRule:
    """The output of the program, and how it becomes the requested frames."""

    kind: str = "frames"  # frames | video
    pattern: str = "{output}/*.png"  # its files, as a glob
    number: str = "(\\d+)"  # regular expression of a file name without suffix; its group is the number
    crop: list[int] = field(default_factory=list)  # x, y, width, height in pixels; x < 0: from the right; empty: whole
    resize: bool = True  # bicubic with antialiasing, to the output's size; False: another size is an error
    missing: str = "refuse"  # missing frames: refuse | repeat (the frame before, else the one after)
    most_missing: float = 0.2  # with repeat: the largest share of missing frames


@dataclass
class Description:
    """The description of a program.

    ``command`` is run in the program's folder; its words can hold ``{placeholders}``: python, folder, input, output,
    list, name, scale, size, frames, fps, seed, references, landmarks, and the keys of ``values``.
    """

    title: str = ""  # the name in the paper's tables
    family: str = ""
    licence: str = ""
    page: str = ""  # its home page
    version: str = ""  # the commit that this description was written for
    install: str = ""  # the steps to install it, one line
    command: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # files of its folder that must exist
    weights: dict[str, str] = field(default_factory=dict)  # where each file comes from, by its glob in the folder
    cuda: bool = False  # whether it needs a CUDA device
    accept: list[int] = field(default_factory=lambda: [0])  # exit codes of success
    values: dict[str, str] = field(default_factory=dict)  # its own options; methods.<name>.values overrides them
    environment: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # notes for the reader of its scores
    input: InputRule = field(default_factory=InputRule)
    references: ReferenceRule = field(default_factory=ReferenceRule)
    output: OutputRule = field(default_factory=OutputRule)


def read_description(path: str | Path) -> Description:
    """Read a program's description.

    Raises:
        UserError: the file is missing or is not YAML, a key is unknown (the message names the nearest) or missing, a
            value has the wrong type, or a placeholder is unknown.
    """
    path = Path(path)
    content = load_yaml(path, "description of a program")
    _check_keys(content, Description, path)
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Description), content))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: key '{error.full_key}': {str(error).splitlines()[0]}") from None
    _check_values(found, path)
    return found


def _check_keys(content: object, schema: type, path: Path, prefix: str = "") -> None:
    if not OmegaConf.is_dict(content):
        raise UserError(f"{path}: {prefix or 'the file'} must hold keys and values")
    known = {f.name: f.default_factory for f in fields(schema)}
    for key in content:
        if key not in known:
            nearest = get_close_matches(str(key), known, 1, 0)[0]
            raise UserError(f"{path}: unknown key '{prefix}{key}'; the nearest valid one is '{prefix}{nearest}'")
        if isinstance(known[key], type) and is_dataclass(known[key]):
            _check_keys(content[key], known[key], path, f"{key}.")


def _check_values(found: Description, path: Path) -> None:
    for f in fields(Description):
        if f.name in NEEDED and not getattr(found, f.name):
            raise UserError(f"{path}: '{f.name}' is missing")
    choices = {
        "input.kind": (found.input.kind, ("frames", "video")),
        "output.kind": (found.output.kind, ("frames", "video")),
        "output.missing": (found.output.missing, ("refuse", "repeat")),
    }
    for key, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{path}: {key} '{value}' is unknown: use {' or '.join(known)}")
    side = found.input.side
    if side not in ("low", "full") and not side.isdecimal():
        raise UserError(f"{path}: input.side '{side}' is neither low nor full nor a number of pixels")
    if found.output.crop and (len(found.output.crop) != 4 or min(found.output.crop[2:]) < 1):
        raise UserError(f"{path}: output.crop must be x, y, width, height")
    try:
        groups = re.compile(found.output.number).groups
    except re.error as error:
        raise UserError(f"{path}: output.number is not a regular expression: {error}") from None
    if groups != 1:
        raise UserError(f"{path}: output.number must have one group, the frame's number")
    for text in (*found.command, found.output.pattern):
        _check_placeholders(text, {*PLACEHOLDERS, *found.values}, path)
    for text in (found.input.line, found.input.line_alone):
        _check_placeholders(text, set(LIST_PLACEHOLDERS), path)


def _check_placeholders(text: str, known: set[str], path: Path) -> None:
    try:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise UserError(f"{path}: '{text}': {error}") from None
    for name in names:
        if name not in known:
            raise UserError(f"{path}: '{{{name}}}' in '{text}' is not a placeholder: use {', '.join(sorted(known))}")
