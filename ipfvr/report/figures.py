"""The figures on the page of an experiment: videos, strips of frames and plots of the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ipfvr.report.plots import heat_map, line_plot
from ipfvr.study.cells import Store
from ipfvr.study.plan import Arm, Clip, clip_borders, sharp_folder
from ipfvr.study.results import Results
from ipfvr.study.schema import Study, grid_name
from ipfvr.video.reader import read_image
from ipfvr.video.strips import strip
from ipfvr.video.writer import write_video

COLUMNS_SHOWN = 6  # frames of a strip
SIDE = 128  # side of a frame in a strip, pixels
ARMS_SHOWN = 12  # the most rows with pictures and videos
TRUTH = "original"


def shown_clips(study: Study, arms: Sequence[Arm], store: Store) -> list[Clip]:
    """Choose the first restored clip of each person, at most ``shown`` clips."""
    found: dict[str, Clip] = {}
    for arm in arms:
        for task in arm.tasks:
            if store.finished(task.restored):
                found.setdefault(task.clip.person.name, task.clip)
    return list(found.values())[: study.experiment.shown]


def videos(
    study: Study, arms: Sequence[Arm], store: Store, clips: Sequence[Clip], folder: Path
) -> dict[str, dict[str, Path]]:
    """Return the mp4 of each clip and version; the mp4 of the sharp clip is written to ``folder``."""
    found = {}
    for clip in clips:
        versions = _versions(study, arms, store, clip)
        found[clip.name] = {title: store.folder(cell) / "clip.mp4" for title, cell in versions.items()}
        if any(arm.level != "real" for arm in arms):
            found[clip.name][TRUTH] = folder / f"{clip.cell.hash}_{clip.index:02d}.mp4"
            _write_truth(sharp_folder(clip, store), found[clip.name][TRUTH], clip.fps)
    return found


def strips(study: Study, arms: Sequence[Arm], store: Store, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Draw a strip of frames for each clip, with one line for each version."""
    found = {}
    for clip in clips:
        folders = {title: store.folder(cell) / "frames" for title, cell in _versions(study, arms, store, clip).items()}
        if any(arm.level != "real" for arm in arms):
            folders[TRUTH] = sharp_folder(clip, store)
        files = {title: sorted(folder.glob("*.png")) for title, folder in folders.items()}
        count = min(len(paths) for paths in files.values())
        picks = np.unique(np.linspace(0, count - 1, min(COLUMNS_SHOWN, count)).round().astype(int)).tolist()
        frames = {title: np.stack([read_image(paths[i]) for i in picks]) for title, paths in files.items()}
        found[f"Frames of {clip.name}"] = strip(frames, list(range(len(picks))), SIDE)
    return found


def plots(study: Study, results: Results) -> dict[str, np.ndarray]:
    """Draw the experiment's plots for which there are numbers."""
    found = {}
    for kind in study.experiment.plots:
        found |= {"frames": _over_frames, "levels": _over_levels, "grid": _over_grid}[kind](study, results)
    return found


def _over_frames(study: Study, results: Results) -> dict[str, np.ndarray]:
    """Plot IDS over the frames of the clip whose mean IDS is the median of the last row that has run."""
    rows = list(study.experiment.rows)
    seed, level = study.limits.seeds[0], study.experiment.levels[0]
    cells = {(c["row"], c["clip"]): c for c in results.cells if (c["seed"], c["level"]) == (seed, level)}
    key = "ids_gt" if "ids_gt" in results.columns else "ids_ref"
    ran = [row for row in rows if any(row == other for other, _ in cells)]
    if not ran:
        return {}
    last = sorted((c["scores"].get(key) or -1.0, clip) for (row, clip), c in cells.items() if row == ran[-1])
    clip = last[len(last) // 2][1]
    lines = {row: cells[row, clip]["per_frame"].get(key) for row in rows if (row, clip) in cells}
    lines = {row: values for row, values in lines.items() if values}
    if not lines:
        return {}
    video = study.config().video
    marks = clip_borders(study.limits.frames, video.clip_frames, video.overlap)
    title = f"{clip}, seed {seed}; dotted: borders of clips"
    return {"IDS over frames": line_plot(lines, title, "frame", results.label(key).title, marks)}


def _over_levels(study: Study, results: Results) -> dict[str, np.ndarray]:
    """Plot each metric over the levels of degradation."""
    levels, found = study.experiment.levels, {}
    for key in results.columns:
        lines = {}
        for row in study.experiment.rows:
            means = {line.level: line.summaries[key] for line in results.lines if line.row == row}
            values = [means[level].mean if means.get(level) else None for level in levels]
            if any(v is not None for v in values):
                lines[row] = values
        if lines:
            title = f"{results.label(key).title} by degradation: " + ", ".join(f"{i} {v}" for i, v in enumerate(levels))
            found[f"{results.label(key).title} over levels"] = line_plot(
                lines, title, "level", results.label(key).title
            )
    return found


def _over_grid(study: Study, results: Results) -> dict[str, np.ndarray]:
    """Draw the mean of each metric over a grid of two options."""
    experiment, found = study.experiment, {}
    if len(experiment.grid) != 2:
        return {}
    (down, across), names = experiment.grid.values(), [key.rpartition(".")[2] for key in experiment.grid]
    by_row = {line.row: line.summaries for line in results.lines if line.level == experiment.levels[0]}
    for key in results.columns:
        values = np.full((len(down), len(across)), np.nan)
        for r, a in enumerate(down):
            for c, b in enumerate(across):
                summary = by_row.get(grid_name(experiment, (a, b)), {}).get(key)
                values[r, c] = summary.mean if summary else np.nan
        if np.isfinite(values).any():
            labels = [f"{v:g}" for v in down], [f"{v:g}" for v in across]
            info = results.label(key)
            found[f"{info.title} over the weights"] = heat_map(
                values, *labels, f"{info.title}, mean over people", (names[0], names[1]), info.digits
            )
    return found


def _versions(study: Study, arms: Sequence[Arm], store: Store, clip: Clip) -> dict:
    """Return the finished cell of a clip with the first seed, by the title of the arm."""
    found = {}
    for arm in arms:
        for task in arm.tasks:
            if (task.clip, task.seed) == (clip, study.limits.seeds[0]) and store.finished(task.restored):
                found[arm.title] = task.restored
    return dict(list(found.items())[:ARMS_SHOWN])


def _write_truth(folder: Path, path: Path, fps: float) -> None:
    if path.is_file():
        return
    write_video(path, [read_image(file) for file in sorted(folder.glob("*.png"))], round(fps), 17)
