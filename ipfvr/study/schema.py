"""What an experiment file says, typed: ``experiments/table1.yaml`` and its like.

An experiment is rows (a method with options), columns (metrics) and levels of degradation, over clips of people. How
much of each is run depends on the preset: the sections ``tiny``, ``mini`` and ``full`` say so.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ipfvr.core.choices import Levels
from ipfvr.core.config import PRESETS, load_config, load_yaml
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.metrics.columns import COLUMNS
from ipfvr.study.paper import paper_table

LEVELS = (*Levels, "real")  # real: the clip as it is, no ground truth
WHOSE = ("own", "stranger")


@dataclass
class Row:
    """One row of a table: a method, and what it does otherwise than the experiment's other rows.

    Attributes:
        method: a name that :func:`ipfvr.methods.make_method` knows.
        set: ``key=value`` options of this row; they rule over everything else.
        lora: a name of the experiment's ``loras``; empty: none.
        references: pictures of the person it is shown, at most; -1: as the experiment says.
        whose: ``own`` pictures, or those of a ``stranger``, the next person.
        paper: the name of the row in the paper's table; empty: this one's own.
        note: a footnote.
    """

    method: str = "ipfvr"
    set: list[str] = field(default_factory=list)
    lora: str = ""
    references: int = -1
    whose: str = "own"
    paper: str = ""
    note: str = ""


@dataclass
class Claim:
    """A sentence of the paper that numbers can decide: a row is better than others in some metrics.

    Attributes:
        better: a row.
        than: rows; empty: all others.
        metrics: keys of columns.
        says: the paper's statement, in short.
    """

    better: str = ""
    than: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    says: str = ""


@dataclass
class Limits:
    """How much is run with a preset.

    Attributes:
        people: names; empty: all that the data have, of the shared data ``of_shared``.
        of_shared: names in the shared data beside the checkout; other data, one's own or the sample, do not heed them.
        most: people at most; 0: all.
        clips: of each test scene, spread over it; a scene too short for so many gives fewer.
        frames: of a clip.
        seeds: of the restorer's noise.
        set: ``key=value`` options of all rows.
    """

    people: list[str] = field(default_factory=list)
    of_shared: list[str] = field(default_factory=list)
    most: int = 0
    clips: int = 2
    frames: int = 24
    seeds: list[int] = field(default_factory=lambda: [0])
    set: list[str] = field(default_factory=list)


@dataclass
class Experiment:
    """An experiment file.

    Attributes:
        title: of the page.
        paper: the paper's table, a key of ``ipfvr/study/paper.yaml``; empty: it has no numbers.
        rows: by name.
        grid: option to values; every combination is a row, made of the one row of ``rows``.
        columns: metric keys.
        levels: of the degradation.
        references: pictures of the person that a row is shown, at most.
        loras: name to ``key=value`` options on top of the file ``training``.
        training: the file that LoRAs are trained by, beside this one.
        plots: ``frames`` (IDS over frames), ``levels`` (metrics over levels), ``grid`` (metrics over the grid).
        claims: what the paper says of the rows.
        footnotes: what a reader must know, such as where the paper contradicts itself.
        set: ``key=value`` options of all rows, with every preset.
        scenes: a file that says which scene of the shared data is for what, beside this one.
        shown: clips that the page shows, at most.
        tiny, mini, full: how much is run.
        output: folder of the report; cells lie in ``cells`` beside it.
        jobs: processes; 0: one a GPU, without GPUs one a core as far as memory goes, at most four.
    """

    title: str = ""
    paper: str = ""
    rows: dict[str, Row] = field(default_factory=dict)
    grid: dict[str, list[float]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=lambda: ["psnr", "ssim", "ids_gt"])
    levels: list[str] = field(default_factory=lambda: ["heavy"])
    references: int = 1
    loras: dict[str, list[str]] = field(default_factory=dict)
    training: str = "lora.yaml"
    plots: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    set: list[str] = field(default_factory=list)
    scenes: str = "mini/scenes.yaml"
    shown: int = 3
    tiny: Limits = field(default_factory=lambda: Limits(clips=1, frames=6))
    mini: Limits = field(default_factory=Limits)
    full: Limits = field(default_factory=Limits)
    output: str = ""
    jobs: int = 0


@dataclass(frozen=True)
class Study:
    """An experiment with a preset and the command line applied.

    Attributes:
        name: of the file, without suffix.
        file: the experiment file.
        experiment: what it says.
        limits: those of the preset.
        preset: its name.
        pairs: ``key=value`` options of all rows: preset, experiment, limits, command line.
        given: those of the command line alone.
    """

    name: str
    file: Path
    experiment: Experiment
    limits: Limits
    preset: str
    pairs: tuple[str, ...]
    given: tuple[str, ...]

    @property
    def output(self) -> Path:
        """Folder of the report."""
        return Path(self.experiment.output or f"runs/reproduce/{self.name}_{self.preset}")

    @property
    def store(self) -> Path:
        """Folder of the cells, which experiments with one parent folder share."""
        return self.output.parent / "cells"

    def config(self, row: Row | None = None, *more: str) -> Config:
        """The configuration of a row; None: what all rows have in common."""
        return _config((*self.pairs, *(row.set if row else ()), *more))


@lru_cache(maxsize=256)
def _config(pairs: tuple[str, ...]) -> Config:
    """Rows have most in common, and composing takes a while: nobody writes into what comes back."""
    return load_config(None, list(pairs))


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read an experiment file and apply ``key=value`` pairs.

    Keys of the experiment (``jobs=2``, ``output=...``, ``columns=[psnr]``) and of the preset's limits (``frames=48``,
    ``people=[anna]``) change these; all others are options of the configuration, for every row and every training.

    Args:
        path: the file.
        overrides: pairs; ``preset`` is ``mini`` where none says another.

    Raises:
        UserError: a file that is not there or says what does not exist; an unknown key names the nearest valid one.
    """
    path = Path(path)
    layer = load_yaml(path, "experiment file")
    if not OmegaConf.is_dict(layer):
        raise UserError(f"{path} must hold keys and values")
    own, limits, options = {f.name for f in fields(Experiment)}, {f.name for f in fields(Limits)}, []
    preset, changes = "mini", []
    for pair in overrides:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"'{pair}' is not of the form key=value (for example jobs=2)")
        first = key.partition(".")[0]
        if key == "preset":
            preset = value
        elif key in limits and key not in own:
            changes.append((True, pair))
        elif first in own and key != "set":
            changes.append((False, pair))
        else:
            options.append(pair)
    if preset not in {f.name for f in fields(Experiment)} or not (PRESETS / f"{preset}.yaml").is_file():
        raise UserError(f"unknown preset '{preset}': known ones are tiny, mini, full")
    layers = [layer]
    try:
        for to_limits, pair in changes:
            layers.append(OmegaConf.from_dotlist([f"{preset}.{pair}" if to_limits else pair]))
    except Exception as error:
        raise UserError(f"'{pair}' cannot be read: {error}") from None
    experiment = _merged(layers, str(path))
    experiment = replace(experiment, rows=_expanded(experiment, path))
    chosen: Limits = getattr(experiment, preset)
    pairs = (f"preset={preset}", *experiment.set, *chosen.set, *options)
    study = Study(path.stem, path, experiment, chosen, preset, pairs, tuple(options))
    _check(study)
    return study


def _merged(layers: Sequence[Any], source: str) -> Experiment:
    merged = OmegaConf.structured(Experiment)
    for layer in layers:
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None) or "?"
            raise UserError(f"{source}: {_trouble(key, str(error).splitlines()[0])}") from None
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def _trouble(key: str, reason: str) -> str:
    if "not in" not in reason:
        return f"key '{key}' has the wrong type: {reason}"
    schema = next((s for part, s in (("rows", Row), ("claims", Claim)) if key.startswith(part)), None)
    section = schema or (Limits if key.partition(".")[0] in ("tiny", "mini", "full") else Experiment)
    known = [f.name for f in fields(section)]
    near = max(known, key=lambda k: difflib.SequenceMatcher(None, k, key.rpartition(".")[2]).ratio())
    return f"unknown key '{key}'; the nearest valid one is '{near}'"


def _expanded(experiment: Experiment, path: Path) -> dict[str, Row]:
    """The rows, those of the grid written out."""
    if not experiment.grid:
        return experiment.rows
    if len(experiment.rows) != 1:
        raise UserError(f"{path}: a grid is made of one row, there are {len(experiment.rows)}")
    (row,) = experiment.rows.values()
    rows = {}
    for values in itertools.product(*experiment.grid.values()):
        pairs = [f"{key}={value:g}" for key, value in zip(experiment.grid, values, strict=True)]
        rows[grid_name(experiment, values)] = replace(row, set=[*row.set, *pairs])
    return rows


def grid_name(experiment: Experiment, values: Sequence[float]) -> str:
    """The row of a grid's point, such as ``negative_text 0.5, negative_visual 0``."""
    names = (key.rpartition(".")[2] for key in experiment.grid)
    return ", ".join(f"{name} {value:g}" for name, value in zip(names, values, strict=True))


def _check(study: Study) -> None:
    """Refuse what does not exist, before anything is run."""
    experiment, path, limits = study.experiment, study.file, study.limits
    if not experiment.rows:
        raise UserError(f"{path} has no rows")
    for name, row in experiment.rows.items():
        if row.lora and row.lora not in experiment.loras:
            raise UserError(f"{path}: row '{name}' wants the LoRA '{row.lora}', which is not among its loras")
        if row.whose not in WHOSE:
            raise UserError(f"{path}: row '{name}': whose is '{row.whose}'; use {' or '.join(WHOSE)}")
        study.config(row)
    for claim in experiment.claims if not experiment.grid else []:
        for name in (claim.better, *claim.than):
            if name not in experiment.rows:
                raise UserError(f"{path}: a claim is about the row '{name}', which there is not")
    for key in (*experiment.columns, *(m for claim in experiment.claims for m in claim.metrics)):
        if key not in COLUMNS:
            near = (difflib.get_close_matches(key, COLUMNS, 1, 0) or list(COLUMNS))[0]
            raise UserError(f"{path}: unknown column '{key}'; the nearest valid one is '{near}'")
    if outside := {m for claim in experiment.claims for m in claim.metrics} - set(experiment.columns):
        raise UserError(f"{path}: a claim is about {', '.join(sorted(outside))}, which is no column")
    paper_table(experiment.paper)
    for level in experiment.levels:
        if level not in LEVELS:
            raise UserError(f"{path}: level '{level}' is unknown: use {', '.join(LEVELS)}")
    if limits.frames < 1 or limits.clips < 1 or not limits.seeds:
        raise UserError(f"{path}: frames and clips must be 1 or more, and there must be a seed")
