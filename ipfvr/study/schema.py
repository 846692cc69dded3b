"""The typed content of an experiment file such as ``experiments/table1.yaml``.

An experiment has rows (a method with options), columns (metrics) and levels of degradation, over clips of people. How
much of it is run depends on the preset: the sections ``tiny``, ``mini`` and ``full`` say so.
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

LEVELS = (*Levels, "real")  # real: the undegraded clip, without ground truth
WHOSE = ("own", "stranger")


@dataclass
class Row:
    """One row of a table: a method, and its differences from the other rows of the experiment.

    Attributes:
        method: a name of :func:`ipfvr.methods.catalogue.list_methods`.
        set: ``key=value`` options of this row, which override all others.
        lora: a name of the experiment's ``loras``; empty: none.
        references: the most pictures of the person that the row sees; -1: the experiment's number.
        whose: ``own`` pictures, or those of a ``stranger``, who is the next person.
        paper: the name of the row in the paper's table; empty: the same name.
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
    """A claim of the paper that numbers can decide: one row is better than others in some metrics.

    Attributes:
        better: the better row.
        than: the other rows; empty: all others.
        metrics: the keys of the columns.
        says: the paper's statement, in short.
    """

    better: str = ""
    than: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    says: str = ""


@dataclass
class Limits:
    """The limits of a preset.

    Attributes:
        people: names of people; empty: all people of the data, or ``of_shared`` of the shared data.
        of_shared: names of people in the shared data beside the checkout; other data ignore this option.
        most: the most people; 0: all.
        clips: the number of clips of each test scene, spread over it; a short scene gives fewer.
        frames: the number of frames of a clip.
        seeds: the seeds of the restorer's noise.
        set: ``key=value`` options of all rows.
        of_sample: ``key=value`` options of all rows on the embedded sample, whose three people decide nothing: the
            table shows in minutes what it looks like. Options of the command line override them.
    """

    people: list[str] = field(default_factory=list)
    of_shared: list[str] = field(default_factory=list)
    most: int = 0
    clips: int = 2
    frames: int = 24
    seeds: list[int] = field(default_factory=lambda: [0])
    set: list[str] = field(default_factory=list)
    of_sample: list[str] = field(default_factory=lambda: ["optimizer.steps=30"])


@dataclass
class Experiment:
    """The content of an experiment file.

    Attributes:
        title: the title of the page.
        paper: the paper's table, a key of ``ipfvr/study/paper.yaml``; empty: the paper has no numbers.
        rows: the rows by name.
        grid: the values of some options; every combination is a row, made from the single row of ``rows``.
        columns: the keys of the metrics.
        levels: the levels of degradation.
        references: the most pictures of the person that a row sees.
        loras: ``key=value`` options on top of the file ``training``, by the name of the LoRA.
        training: the configuration file for LoRAs, beside this one.
        plots: ``frames`` (IDS over frames), ``levels`` (metrics over levels), ``grid`` (metrics over the grid).
        claims: the claims of the paper about the rows.
        footnotes: notes for the reader, such as a contradiction in the paper.
        set: ``key=value`` options of all rows, with every preset.
        scenes: the file that says what each scene of the shared data is used for, beside this one.
        shown: the most clips that the page shows.
        tiny, mini, full: the limits of each preset.
        output: the folder of the report; cells are kept in ``cells`` beside it.
        jobs: the number of processes; 0: one for each GPU, or without GPUs one for each core that has enough memory,
            at most four.
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
    """An experiment with a preset and the options of the command line.

    Attributes:
        name: the name of the file, without suffix.
        file: the experiment file.
        experiment: the content of the file.
        limits: the limits of the preset.
        preset: the name of the preset.
        given: ``key=value`` options of the command line alone.
    """

    name: str
    file: Path
    experiment: Experiment
    limits: Limits
    preset: str
    given: tuple[str, ...]

    @property
    def pairs(self) -> tuple[str, ...]:
        """The ``key=value`` options of all rows: preset, experiment, limits, command line."""
        return (f"preset={self.preset}", *self.experiment.set, *self.limits.set, *self.given)

    @property
    def output(self) -> Path:
        """The folder of the report."""
        return Path(self.experiment.output or f"runs/reproduce/{self.name}_{self.preset}")

    @property
    def store(self) -> Path:
        """The folder of the cells; experiments whose reports lie in one folder share it."""
        return self.output.parent / "cells"

    def on_sample(self) -> Study:
        """Return the same experiment with the options of the embedded sample."""
        return replace(self, limits=replace(self.limits, set=[*self.limits.set, *self.limits.of_sample]))

    def config(self, row: Row | None = None, *more: str) -> Config:
        """Return the configuration of a row; None: the options that all rows have in common."""
        return _config((*self.pairs, *(row.set if row else ()), *more))


@lru_cache(maxsize=256)
def _config(pairs: tuple[str, ...]) -> Config:
    """Load a configuration once: rows often share one, and loading takes time. The result must not be changed."""
    return load_config(None, list(pairs))


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read an experiment file and apply ``key=value`` pairs.

    A key can be one of the experiment (``jobs=2``, ``output=...``, ``columns=[psnr]``) or of the preset's limits
    (``frames=48``, ``people=[anna]``). All other keys are options of the configuration, for every row and training.

    Args:
        path: the file.
        overrides: the pairs; without ``preset=...`` the preset is ``mini``.

    Raises:
        UserError: the file is missing or names something unknown; the message gives the nearest valid key.
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
    study = Study(path.stem, path, experiment, chosen, preset, tuple(options))
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
    """Return the rows; a grid gives one for each combination of values."""
    if not experiment.grid:
        return experiment.rows
    if len(experiment.rows) != 1:
        raise UserError(f"{path}: a grid needs exactly one row, but there are {len(experiment.rows)}")
    (row,) = experiment.rows.values()
    rows = {}
    for values in itertools.product(*experiment.grid.values()):
        pairs = [f"{key}={value:g}" for key, value in zip(experiment.grid, values, strict=True)]
        rows[grid_name(experiment, values)] = replace(row, set=[*row.set, *pairs])
    return rows


def grid_name(experiment: Experiment, values: Sequence[float]) -> str:
    """Return the name of a grid point's row, such as ``negative_text 0.5, negative_visual 0``."""
    names = (key.rpartition(".")[2] for key in experiment.grid)
    return ", ".join(f"{name} {value:g}" for name, value in zip(names, values, strict=True))


def _check(study: Study) -> None:
    """Reject names that do not exist, before anything is run."""
    experiment, path, limits = study.experiment, study.file, study.limits
    if not experiment.rows:
        raise UserError(f"{path} has no rows")
    for name, row in experiment.rows.items():
        if row.lora and row.lora not in experiment.loras:
            raise UserError(f"{path}: row '{name}' uses the LoRA '{row.lora}', which is not listed under loras")
        if row.whose not in WHOSE:
            raise UserError(f"{path}: row '{name}': whose is '{row.whose}'; use {' or '.join(WHOSE)}")
        study.config(row)
    for claim in experiment.claims if not experiment.grid else []:
        for name in (claim.better, *claim.than):
            if name not in experiment.rows:
                raise UserError(f"{path}: a claim names the row '{name}', which does not exist")
    for key in (*experiment.columns, *(m for claim in experiment.claims for m in claim.metrics)):
        if key not in COLUMNS:
            near = (difflib.get_close_matches(key, COLUMNS, 1, 0) or list(COLUMNS))[0]
            raise UserError(f"{path}: unknown column '{key}'; the nearest valid one is '{near}'")
    if outside := {m for claim in experiment.claims for m in claim.metrics} - set(experiment.columns):
        raise UserError(f"{path}: a claim names {', '.join(sorted(outside))}, which is not among the columns")
    paper_table(experiment.paper)
    for level in experiment.levels:
        if level not in LEVELS:
            raise UserError(f"{path}: level '{level}' is unknown: use {', '.join(LEVELS)}")
    if limits.frames < 1 or limits.clips < 1 or not limits.seeds:
        raise UserError(f"{path}: frames and clips must be at least 1, and seeds must not be empty")
