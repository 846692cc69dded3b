"""The page of the demo: one clip before and after, without and with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ipfvr.metrics.evaluation import ClipScores
from ipfvr.report.html import render
from ipfvr.report.plots import line_plot

TITLE = "ipfvr: a clip before and after"
OWN = """make demo VIDEO=old.mp4 REFERENCE=photo.jpg                                    # this page, with your own film
python -m ipfvr.restore old.mp4 --reference photo.jpg --output restored.mp4    # the whole film, with its sound
python -m ipfvr.fit --config experiments/lora.yaml data.root=data data.identity=anna    # learn one person"""


def demo_page(
    about: str,
    files: Mapping[str, Path],
    frames: np.ndarray,
    lines: Sequence[Sequence[str]],
    notes: Sequence[str],
    rows: Sequence[ClipScores],
    words: str,
) -> str:
    """Return the page as HTML text; it opens without a network.

    Args:
        about: a sentence on the person that it shows.
        files: the mp4 file of each version by name, the low-quality one first.
        frames: a strip of all versions, (H, W, 3) uint8 RGB.
        lines: the lines of the table as cells, headings first.
        notes: the notes below the table.
        rows: the scores of the versions, for the curve of IDS over the frames.
        words: the description of the reference, as ``python -m ipfvr.describe`` prints it; empty: there is none.
    """
    curve_title, curve = _curve(rows)
    return render(
        "demo.html",
        title=TITLE,
        about=about,
        files=files,
        frames=frames,
        lines=lines,
        notes=notes,
        curve_title=curve_title,
        curve=curve,
        words=words,
        own=OWN,
    )


def _curve(rows: Sequence[ClipScores]) -> tuple[str, np.ndarray | None]:
    """Plot IDS over the frames, to the truth or else to the reference; return a title and a picture, or None."""
    key = next((key for key in ("ids_gt", "ids_ref") if all(row.per_frame.get(key) for row in rows)), "")
    if not key:
        return "", None
    title = "IDS to " + {"ids_gt": "the truth", "ids_ref": "the reference"}[key]
    return title, line_plot({row.name: row.per_frame[key] for row in rows}, title, "frame", "IDS", size=(1000, 420))
