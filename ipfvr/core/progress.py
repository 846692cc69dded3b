"""How far a long piece of work is, in a file: a process that waits for it reads it and shows it."""

from __future__ import annotations

import json
from pathlib import Path

from tqdm import tqdm

from ipfvr.core.files import write_json

_FILE = "progress.json"


def write_progress(folder: Path, step: int, total: int, seconds_left: float | None) -> None:
    """Say how far the work in a folder is.

    Args:
        folder: of the work.
        step: done so far.
        total: of steps.
        seconds_left: until the end; None: nobody can tell yet.
    """
    write_json(folder / _FILE, {"step": step, "total": total, "seconds_left": seconds_left})


def read_progress(folder: Path) -> str:
    """Such as ``step 37 of 100, 04:12 left``; empty where nothing is said."""
    try:
        said = json.loads((folder / _FILE).read_text())
    except (OSError, ValueError):
        return ""
    left = said["seconds_left"]
    return f"step {said['step']} of {said['total']}" + (f", {tqdm.format_interval(left)} left" if left else "")


def end_progress(folder: Path) -> None:
    """The work is done: nothing is said any more."""
    (folder / _FILE).unlink(missing_ok=True)
