"""Results to Weights & Biases: a run a cell in the experiment's group, and one for the report; never required.

A cell is one clip of a row with one seed: its run has the row, level, clip and options as its configuration, the scores
as its summary, the numbers of every frame as curves, and the video of a clip that the page shows. Rows are groups of
cells, by ``row`` and ``level``. Under an agent of a sweep the one run is the row's. Offline by default: ``wandb sync``
sends what lies in the report's folder later.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ipfvr.core.config import config_to_dict
from ipfvr.core.files import write_json
from ipfvr.report.dashboard import PROJECT, dashboard
from ipfvr.report.fingerprint import PAGE
from ipfvr.report.tables import results_json
from ipfvr.study.cells import Store
from ipfvr.study.plan import Arm
from ipfvr.study.results import Line, Results
from ipfvr.study.schema import Study

NOTED = "wandb.json"  # ids of the runs that are logged: a second run of the same logs nothing twice
TIMEOUT = 30.0  # seconds that a server is waited for
SWEEP = "WANDB_SWEEP_ID"  # set by an agent, whose run the row then is


def log_results(results: Results, study: Study, arms: Sequence[Arm], store: Store) -> str:
    """Log what has changed since the last time; a W&B that cannot be reached or is not installed stops nothing.

    Args:
        results: see :func:`ipfvr.study.results.collect`.
        study: ``train.wandb`` says offline, online or disabled.
        arms: of the results' lines, in their order.
        store: keeps the cells.

    Returns:
        A note on what could not be logged; empty: all was, or nothing is wanted.
    """
    mode = study.config().train.wandb
    write_json(study.output / "dashboard.json", dashboard(results))
    if mode == "disabled":
        return ""
    try:
        import wandb
    except ModuleNotFoundError:
        return "W&B is not installed, nothing was logged to it: pip install wandb"
    noted = study.output / NOTED
    done: list[str] = json.loads(noted.read_text()) if noted.is_file() else []
    try:
        for arm, line in zip(arms, results.lines, strict=True):
            cells = [c for c in results.cells if (c["row"], c["level"]) == (arm.row, arm.level)]
            videos = videos_of(study, arm, store)
            if SWEEP in os.environ and cells:
                with _run(wandb, study, mode, "", line.title, "row", row_config(study, arm)) as run:
                    log_row(run, wandb, results, line, cells, videos)
                continue
            for cell in cells:
                name = run_id(study, line, [cell["cell"]])
                if name not in done:
                    config = row_config(study, arm) | {key: cell[key] for key in ("clip", "person", "seed")}
                    title = f"{line.title}, {cell['clip']}, seed {cell['seed']}"
                    with _run(wandb, study, mode, name, title, "cell", config) as run:
                        log_cell(run, wandb, cell, videos)
                    done.append(name)
            write_json(noted, done)
        name = run_id(study, None, [c["cell"] for c in results.cells])
        if name not in done and SWEEP not in os.environ:
            with _run(wandb, study, mode, name, "report", "report", results_json(results)["columns"]) as run:
                log_page(run, wandb, results, study, arms, store)
            write_json(noted, [*done, name])
    except Exception as error:
        # Whatever it is, the results are on disk: a logger is no reason to fail.
        return f"W&B took no more: {type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def run_id(study: Study, line: Line | None, cells: Sequence[str]) -> str:
    """The same for the same cells."""
    text = json.dumps([study.name, study.preset, line.title if line else "", sorted(cells)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def row_config(study: Study, arm: Arm) -> dict[str, Any]:
    """What a run's page says of its row."""
    config = config_to_dict(study.config(arm.spec))
    return {"row": arm.row, "level": arm.level, "method": arm.spec.method, "lora": arm.spec.lora, "options": config}


def log_cell(run: Any, wandb: Any, cell: Any, videos: Mapping[str, Any]) -> None:
    """A cell's scores as the run's summary, its frames as curves, its clip as a video where the page shows it."""
    for frame, values in enumerate(frame_means([cell])):
        run.log({"frame": frame, **values})
    if path := videos.get(cell["clip"]):
        run.log({f"videos/{cell['clip']}": wandb.Video(str(path))})
    run.summary.update({key: value for key, value in cell["scores"].items() if value is not None})


def log_row(
    run: Any, wandb: Any, results: Results, line: Line, cells: Sequence[Any], videos: Mapping[str, Any]
) -> None:
    """A row's means as the run's summary, which a sweep compares; its cells as a table, frames and clips as above."""
    for frame, values in enumerate(frame_means(cells)):
        run.log({"frame": frame, **values})
    shown = {f"videos/{clip}": wandb.Video(str(path)) for clip, path in videos.items()}
    run.log({"cells": cell_table(wandb, results, cells), **shown})
    run.summary.update({key: s.mean for key, s in line.summaries.items() if s is not None})


def cell_table(wandb: Any, results: Results, cells: Sequence[Any]) -> Any:
    """A line a cell: where it is from, and its scores."""
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
    """All cells as a table, the report's files, its plots, and the LoRAs as artifacts."""
    output = study.output
    run.log({"cells": cell_table(wandb, results, results.cells)})
    run.log({path.stem: wandb.Image(_picture(path)) for path in sorted(output.glob("*.png"))})
    report = wandb.Artifact(f"{study.name}_{study.preset}", type="report")
    for name in (PAGE, "results.json", "table.csv", "table.md", "table.tex"):
        report.add_file(str(output / name))
    run.log_artifact(report)
    for cell in {cell.hash: cell for arm in arms for cell in arm.loras if store.finished(cell)}.values():
        artifact = wandb.Artifact(f"lora_{cell.hash}", type="lora", description=cell.name, metadata=cell.key)
        artifact.add_dir(str(store.folder(cell) / "weights"))
        run.log_artifact(artifact)


def _run(wandb: Any, study: Study, mode: str, name: str, title: str, kind: str, config: dict[str, Any]) -> Any:
    return wandb.init(
        project=PROJECT,
        group=study.name,
        job_type=kind,
        name=title,
        id=name or None,
        dir=str(study.output),
        mode=mode,
        config=config,
        settings=wandb.Settings(init_timeout=TIMEOUT, console="off", silent=True),
    )


def _picture(path: Any) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]
