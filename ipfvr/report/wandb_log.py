"""Results to Weights & Biases: a run a row in the experiment's group, and one for the report; never required.

A row's run has its level, method and options as configuration, its means with their intervals as summary, its cells as
a table, the numbers of every frame as curves, likeness of every clip as one chart, the videos of the clips that the
page shows, and of each LoRA the curve of its training and r_f of every frame before and after it. Offline by default:
``wandb sync`` sends what lies in the report's folder later. Under an agent of a sweep the run is the agent's.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ipfvr.core.choices import WandbModes
from ipfvr.core.config import config_to_dict
from ipfvr.core.files import write_json
from ipfvr.report.dashboard import dashboard
from ipfvr.report.fingerprint import PAGE
from ipfvr.report.tables import results_json
from ipfvr.study.cells import Cell, Store
from ipfvr.study.plan import Arm
from ipfvr.study.results import Line, Results
from ipfvr.study.schema import Study

NOTED = "wandb.json"  # ids of the runs that are logged: a second run of the same logs nothing twice
TIMEOUT = 30.0  # seconds that a server is waited for
SWEEP = "WANDB_SWEEP_ID"  # set by an agent, whose run the row then is


def log_results(results: Results, study: Study, arms: Sequence[Arm], store: Store) -> str:
    """Log the rows that are not logged yet, and the report; a W&B that cannot be reached stops nothing.

    Args:
        results: see :func:`ipfvr.study.results.collect`.
        study: ``train.wandb`` says offline, online or disabled.
        arms: of the results' lines, in their order.
        store: keeps the cells.

    Returns:
        A note on what could not be logged; empty: all was, or nothing is wanted.
    """
    write_json(study.output / "dashboard.json", dashboard(results, study.config().train.wandb_project))

    def log_report(wandb: Any, done: list[str]) -> None:
        name = run_id(study, None, [c["cell"] for c in results.cells])
        if name not in done and SWEEP not in os.environ:
            with _run(wandb, study, name, "report", "report", [study.preset], results_json(results)["columns"]) as run:
                log_page(run, wandb, results, study, arms, store)
            done.append(name)

    return log_rows(results, study, arms, store) or _logged(study, log_report)


def log_rows(results: Results, study: Study, arms: Sequence[Arm], store: Store) -> str:
    """Log the rows that are not logged yet, a run each; arguments and result are those of :func:`log_results`."""

    def log(wandb: Any, done: list[str]) -> None:
        for arm, line in zip(arms, results.lines, strict=True):
            cells = [c for c in results.cells if (c["row"], c["level"]) == (arm.row, arm.level)]
            name = "" if SWEEP in os.environ else run_id(study, line, [cell["cell"] for cell in cells])
            if cells and name not in done:
                with _run(wandb, study, name, line.title, "row", tags_of(study, arm), row_config(study, arm)) as run:
                    log_row(run, wandb, results, line, cells, videos_of(study, arm, store))
                    for cell in arm.loras:
                        log_lora(run, wandb, cell, store.folder(cell))
                done += [name] if name else []

    return _logged(study, log)


def log_finished_row(results: Results, study: Study, arm: Arm, store: Store) -> str:
    """Log one row while the others still run; under a sweep, whose only run the row is, :func:`log_results` does it."""
    return "" if SWEEP in os.environ else log_rows(results, study, [arm], store)


def _logged(study: Study, log: Callable[[Any, list[str]], None]) -> str:
    """Call ``log`` with W&B and the runs that are logged, to which it adds; return a note if it cannot be done."""
    if study.config().train.wandb == WandbModes.disabled:
        return ""
    try:
        import wandb
    except ModuleNotFoundError:
        return "W&B is not installed, nothing was logged to it: pip install wandb"
    noted = study.output / NOTED
    done: list[str] = json.loads(noted.read_text()) if noted.is_file() else []
    try:
        log(wandb, done)
    except Exception as error:
        # Whatever it is, the results are on disk: a logger is no reason to fail.
        return f"W&B took no more: {type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        write_json(noted, done)
    return ""


def run_id(study: Study, line: Line | None, cells: Sequence[str]) -> str:
    """Return the id of a run, which is the same for the same cells."""
    text = json.dumps([study.name, study.preset, line.title if line else "", sorted(cells)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def row_config(study: Study, arm: Arm) -> dict[str, Any]:
    """Return the configuration that a run's page shows."""
    config = config_to_dict(study.config(arm.spec))
    return {"row": arm.row, "level": arm.level, "method": arm.spec.method, "lora": arm.spec.lora, "options": config}


def tags_of(study: Study, arm: Arm) -> list[str]:
    """Return the tags of a run: preset, level, method, and whether it has a LoRA."""
    return [study.preset, arm.level, arm.spec.method, *(["lora"] if arm.spec.lora else [])]


def log_row(
    run: Any, wandb: Any, results: Results, line: Line, cells: Sequence[Any], videos: Mapping[str, Any]
) -> None:
    """Log a row: means with their intervals as the run's summary, its cells as a table, curves, a chart, videos."""
    for frame, values in enumerate(frame_means(cells)):
        run.log({"frame": frame, **values})
    shown = {f"videos/{clip}": wandb.Video(str(path)) for clip, path in videos.items()}
    run.log({"cells": cell_table(wandb, results, cells), **shown, **likeness_charts(wandb, cells)})
    for key, summary in line.summaries.items():
        if summary is not None:
            ends = {"low": summary.low, "high": summary.high, "people": summary.people, "clips": summary.clips}
            run.summary.update({key: summary.mean, **{f"{key}/{end}": v for end, v in ends.items() if v is not None}})


def likeness_charts(wandb: Any, cells: Sequence[Any]) -> dict[str, Any]:
    """Draw IDS over the frames, one line for each clip and seed, in one chart for each target."""
    charts = {}
    for key, title in (("ids_gt", "IDS to the truth"), ("ids_ref", "r_f: IDS to the reference")):
        lines = {f"{c['clip']}, seed {c['seed']}": c["per_frame"][key] for c in cells if c["per_frame"].get(key)}
        if lines:
            charts[f"charts/{key}"] = _lines(wandb, lines, title, "frame")
    return charts


def log_lora(run: Any, wandb: Any, cell: Cell, folder: Path) -> None:
    """Log a LoRA: its losses over the steps, and r_f of every frame before and after it, one chart each."""
    person, charts = cell.name.rpartition(" ")[2], {}
    for log in sorted((folder / "log").glob("*/metrics.csv")):
        losses = read_columns(log, "step", "loss/")
        if losses:
            charts[f"lora/{person}/{log.parent.name}"] = _lines(wandb, losses, f"{cell.name}: losses", "row of the log")
    if (rewards := folder / "rewards.csv").is_file():
        found = read_columns(rewards, "frame", "")
        charts[f"lora/{person}/r_f"] = _lines(wandb, found, f"{cell.name}: r_f over the frames", "frame")
    if charts:
        run.log(charts)


def read_columns(path: Path, over: str, prefix: str) -> dict[str, list[float]]:
    """Read the columns of a CSV file whose names begin with ``prefix``, in the rows that have all of them.

    Args:
        path: of a file with a line of names.
        over: a column that is left out.
        prefix: of the names.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name.startswith(prefix) and name != over]
    whole = [row for row in rows if all(row[name] for name in names)]
    return {name: [float(row[name]) for row in whole] for name in names if whole}


def _lines(wandb: Any, lines: Mapping[str, Sequence[float | None]], title: str, across: str) -> Any:
    """Draw one chart of several lines; a missing number is left out."""
    there = {name: [(x, y) for x, y in enumerate(values) if y is not None] for name, values in lines.items()}
    xs, ys = ([[point[axis] for point in points] for points in there.values()] for axis in (0, 1))
    return wandb.plot.line_series(xs=xs, ys=ys, keys=list(there), title=title, xname=across)


def cell_table(wandb: Any, results: Results, cells: Sequence[Any]) -> Any:
    """Make a table with one line for each cell: its origin and its scores."""
    columns = ["row", "level", "clip", "person", "seed"]
    table = wandb.Table(columns=[*columns, *results.columns])
    for cell in cells:
        table.add_data(*(cell[key] for key in columns), *(cell["scores"].get(key) for key in results.columns))
    return table


def frame_means(cells: Sequence[Any]) -> list[dict[str, float]]:
    """For each frame index the mean over clips of what has a number a frame, such as ``frames/ids_gt``."""
    keys = sorted({key for cell in cells for key in cell["per_frame"]})
    length = max((len(v) for cell in cells for v in cell["per_frame"].values()), default=0)
    rows: list[dict[str, float]] = []
    for frame in range(length):
        found = {}
        for key in keys:
            values = [cell["per_frame"][key][frame : frame + 1] for cell in cells if key in cell["per_frame"]]
            there = [v[0] for v in values if v and v[0] is not None]
            if there:
                found[f"frames/{key}"] = float(np.mean(there))
        rows.append(found)
    return rows


def videos_of(study: Study, arm: Arm, store: Store) -> dict[str, Any]:
    """Clip to video of the arm's first clips, at most as many as the page shows."""
    there = [task for task in arm.tasks if store.finished(task.restored)][: study.experiment.shown]
    return {task.clip.name: store.folder(task.restored) / "clip.mp4" for task in there}


def log_page(run: Any, wandb: Any, results: Results, study: Study, arms: Sequence[Arm], store: Store) -> None:
    """Log all cells as a table, the report's files, its plots, and the LoRAs as artifacts."""
    output = study.output
    run.log({"cells": cell_table(wandb, results, results.cells)})
    run.log({path.stem: wandb.Image(_picture(path)) for path in sorted(output.glob("*.png"))})
    report = wandb.Artifact(f"{study.name}_{study.preset}", type="report")
    for name in (PAGE, "results.json", "table.csv", "table.md", "table.tex"):
        report.add_file(str(output / name))
    run.log_artifact(report)
    for cell in {cell.hash: cell for arm in arms for cell in arm.loras if store.finished(cell)}.values():
        artifact = wandb.Artifact(f"lora_{cell.hash}", type="lora", description=cell.name, metadata=cell.key)
        for path in sorted((store.folder(cell) / "weights").iterdir()):  # a whole folder at once W&B announces in print
            artifact.add_file(str(path))
        run.log_artifact(artifact)


def _run(
    wandb: Any, study: Study, name: str, title: str, kind: str, tags: Sequence[str], config: dict[str, Any]
) -> Any:
    train = study.config().train
    return wandb.init(
        project=train.wandb_project,
        entity=train.wandb_entity or None,
        group=study.name,
        job_type=kind,
        name=title,
        tags=list(dict.fromkeys(tags)),
        id=name or None,
        dir=str(study.output),
        mode=train.wandb,
        config=config,
        settings=wandb.Settings(init_timeout=TIMEOUT, console="off", silent=True),
    )


def _picture(path: Any) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]
