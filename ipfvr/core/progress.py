"""The progress of a long task in a file, which a process that waits for the task can show."""

from __future__ import annotations

import json
from pathlib import Path

from tqdm import tqdm

from ipfvr.core.files import write_json

_FILE = "progress.json"


def write_progress(folder: Path, step: int, total: int, seconds_left: float | None) -> None:
    """Write the progress of the task in a folder.

    Args:
        folder: the folder of the task.
        step: the number of finished steps.
        total: the number of all steps.
        seconds_left: the estimated time to the end; None: unknown.
    """
    write_json(folder / _FILE, {"step": step, "total": total, "seconds_left": seconds_left})


def read_progress(folder: Path) -> str:
    """Return text such as ``step 37 of 100, 04:12 left``; empty: there is no progress file."""
    try:
        progress = json.loads((folder / _FILE).read_text())
    except (OSError, ValueError):
        return ""
    left = progress["seconds_left"]
    return f"step {progress['step']} of {progress['total']}" + (f", {tqdm.format_interval(left)} left" if left else "")


def end_progress(folder: Path) -> None:
    """Remove the progress file, because the task is finished."""
    (folder / _FILE).unlink(missing_ok=True)
