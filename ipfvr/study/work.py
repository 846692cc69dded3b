"""The work of each kind of cell. It is imported only when a cell must be made, because it loads torch."""

from __future__ import annotations

import json
import math
import traceback
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.files import write_json
from ipfvr.core.options import Config
from ipfvr.core.provenance import versions
from ipfvr.data.paired import cut_pieces, low_quality
from ipfvr.faces.detect import make_detector
from ipfvr.methods.base import Case, Method
from ipfvr.methods.catalogue import make_method
from ipfvr.metrics.evaluation import KEYS, ClipScores, Scorer, evaluate_clip, make_scorer
from ipfvr.metrics.identity import identity_drift, identity_jumps
from ipfvr.study.cells import FAILED, NOT_RUN, Cell, Store
from ipfvr.training.run import fit
from ipfvr.training.step_file import StepFile
from ipfvr.video.reader import read_image
from ipfvr.video.writer import write_picture, write_video

SHOWN_CRF = 17  # for the videos on the page; the scores are computed on the frames themselves


class NotRun(Exception):
    """Raised for a row that cannot run here; the message says why and how to make it run."""


def make_cell(cell: Cell, store: Store) -> None:
    """Make a cell and store it; an error is recorded in the store and not raised.

    Args:
        cell: the cell; all cells before it are finished.
        store: the store of the cells.
    """
    torch.set_flush_denormal(True)
    began, folder = perf_counter(), store.begin(cell)
    try:
        record = MAKERS[cell.kind](cell, folder)
        seconds = round(perf_counter() - began, 3)
        store.finish(cell, folder, {"seconds": seconds, "versions": versions(), **record})
    except NotRun as error:
        store.fail(cell, NOT_RUN, " ".join(str(error).split()))
    except Exception as error:
        # An error of any kind concerns this cell only, and the others still run.
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        (folder / "traceback.txt").write_text(traceback.format_exc())
        store.fail(cell, FAILED, kind + " ".join(str(error).split()))


def make_clips(cell: Cell, folder: Path) -> dict[str, Any]:
    """Cut sharp aligned pieces that are spread over a scene: ``<index>/%06d.png``."""
    frames = cell.key["frames"]
    config = load_config(None, [*cell.given["pairs"], f"video.clip_frames={frames}", "video.overlap=0"])
    pieces = cut_pieces(Path(cell.given["video"]), make_detector(config.faces), config, cell.key["clips"])
    for index, sharp in enumerate(pieces.frames):
        write_frames(folder / f"{index:02d}", sharp)
    return {"starts": pieces.starts, "fps": pieces.fps, "scene_frames": pieces.scene_frames}


def make_low(cell: Cell, folder: Path) -> dict[str, Any]:
    """Degrade a clip: ``frames/%06d.png``; at the level ``real`` the clip stays unchanged."""
    sharp, key = read_frames(Path(cell.given["sharp"])), cell.key
    low, parameters = low_quality(sharp, key["level"], key["scale"], key["seed"], key["scale_sigma"])
    write_frames(folder / "frames", low)
    return {"parameters": parameters.to_dict() if parameters else None}


def make_lora(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train a person's LoRA as ``python -m ipfvr.fit`` does; an interrupted training is resumed.

    A file holds the progress of the training; the process that waits for the cell shows it in its bar.
    """
    pairs = [*cell.given["pairs"], f"train.output={folder}", "train.wandb=disabled", "train.accelerator=auto"]
    config = load_config(cell.given["file"], pairs)
    config.trainer |= {"enable_progress_bar": False, "callbacks": [f"{StepFile.__module__}.{StepFile.__name__}"]}
    fit(config)
    card = json.loads((folder / "weights" / "card.json").read_text())
    return {"steps": card["steps"], "losses": card["losses"], "remarks": card["remarks"]}


def make_restored(cell: Cell, folder: Path) -> dict[str, Any]:
    """Restore a clip by a row's method: ``frames/%06d.png``, and ``clip.mp4`` for the page."""
    given, key = cell.given, cell.key
    method = _method(given["method"], tuple(given["pairs"]))
    if reason := method.missing():
        raise NotRun(reason)
    case = Case(
        name=cell.hash,
        identity=given["identity"],
        low=Path(given["low"]),
        size=key["size"],
        frames=key["frames"],
        fps=given["fps"],
        references=tuple(Path(p) for p in given["references"]),
        prompt=Path(given["prompt"]) if given["prompt"] else None,
        lora=Path(given["lora"]) if given["lora"] else None,
        seed=key["seed"],
    )
    report = method.restore(case, folder / "frames")
    frames = read_frames(folder / "frames")
    if frames.shape != (case.frames, case.size, case.size, 3):
        raise UserError(f"{method.title} wrote {frames.shape}, not {case.frames} frames of {case.size} x {case.size}")
    write_video(folder / "clip.mp4", frames, round(given["fps"]), SHOWN_CRF)
    weights = {part: str(path) for part, path in report.weights.items()}
    command = report.command.replace(str(folder / "frames"), "restored")
    about = {"title": method.title, "licence": method.licence, "family": method.family}
    return {"notes": list(report.notes), "weights": weights, "command": command, "took": report.seconds, **about}


def make_scores(cell: Cell, folder: Path) -> dict[str, Any]:
    """Compute every metric that the available weights allow: ``scores.json``."""
    given = cell.given
    scorer, config = _scorer(tuple(given["pairs"]))
    truth = read_frames(Path(given["truth"])) if given["truth"] else None
    reference = None
    if given["references"]:
        reference = scorer.embed_reference({path: read_image(path) for path in given["references"]})
    row = evaluate_clip(read_frames(Path(given["restored"])), truth, reference, scorer, name=given["clip"])
    write_json(folder / "scores.json", asdict(with_drift(row, cell.key["borders"])))
    return {"recogniser": config.weights.recogniser}


def with_drift(row: ClipScores, borders: list[int]) -> ClipScores:
    """Add the drift of IDS (first minus last third) and its jumps at and between windows to the scores, x 1e-2."""
    per_frame = row.per_frame.get("ids_gt") or row.per_frame.get("ids_ref") or []
    ids = torch.tensor([math.nan if v is None else v for v in per_frame], dtype=torch.float64)
    values = dict.fromkeys(("drift", "abs_drift", "border_jump", "other_jump"))
    if len(ids) > 2:
        at, elsewhere = identity_jumps(ids, borders) if borders else (torch.tensor(math.nan),) * 2
        drift = identity_drift(ids)
        found = {"drift": drift, "abs_drift": drift.abs(), "border_jump": at, "other_jump": elsewhere}
        values |= {key: 100 * float(v) if math.isfinite(v) else None for key, v in found.items()}
    reason = "the clip is one window" if len(ids) > 2 else "there is no IDS for three frames or more"
    missing = {key: reason for key, value in values.items() if value is None}
    return replace(row, scores={**row.scores, **values}, missing={**row.missing, **missing})


def write_frames(folder: Path, frames: np.ndarray) -> None:
    """Write frames (F, H, W, 3) uint8 RGB as ``%06d.png``."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        write_picture(folder / f"{index:06d}.png", frame)


def read_frames(folder: Path) -> np.ndarray:
    """Read the frames of a folder, (F, H, W, 3) uint8 RGB."""
    return np.stack([read_image(path) for path in sorted(folder.glob("*.png"))])


MAKERS = {
    "clips": make_clips,
    "low": make_low,
    "lora": make_lora,
    "restored": make_restored,
    "scores": make_scores,
}


@lru_cache(maxsize=1)
def _method(name: str, pairs: tuple[str, ...]) -> Method:
    """Make a row's method, and keep the last one so that its networks are not loaded again for the next clip."""
    return make_method(name, load_config(None, list(pairs)))


@lru_cache(maxsize=1)
def _scorer(pairs: tuple[str, ...]) -> tuple[Scorer, Config]:
    config = load_config(None, list(pairs))
    # Cells hold aligned crops, which are often too small for a detector to be reliable, so none is used.
    return make_scorer(config, aligned=True, metrics=KEYS), config
