"""The page of the demo: one clip before and after, without and with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from ipfvr.metrics.evaluation import ClipScores
from ipfvr.report.html import bullets, comparison, document, picture
from ipfvr.report.plots import line_plot

TITLE = "ipfvr: a clip before and after"
OWN = """make demo VIDEO=old.mp4 REFERENCE=photo.jpg                                    # this page, of your own
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
    """The page's text; it opens without a network.

    Args:
        about: whom it shows, a sentence.
        files: name of a version to its mp4 file, the low-quality one first.
        frames: a strip of all versions, (H, W, 3) uint8 RGB.
        lines: the table's lines of cells, headings first.
        notes: below it.
        rows: what the versions scored, for the curve of IDS over the frames.
        words: what was read off the reference, as ``python -m ipfvr.describe`` prints it; empty: there is none.
    """
    parts = [
        f"<h1>{escape(TITLE)}</h1><p class=lead>{escape(about)}</p>",
        comparison(0, "left of the line one version, right of it another", files),
        "<h2>Frames</h2>" + picture(frames, "frames of every version"),
        "<h2>Scores</h2>" + _table(lines) + bullets(notes),
        _curve(rows),
        f"<h2>What was read off the reference</h2><pre>{escape(words)}</pre>" if words else "",
        f"<h2>Your own</h2><pre>{escape(OWN)}</pre>",
    ]
    return document(TITLE, parts)


def _table(lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in lines[0])
    body = "".join(
        f"<tr><th>{escape(line[0])}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in line[1:]) + "</tr>"
        for line in lines[1:]
    )
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"


def _curve(rows: Sequence[ClipScores]) -> str:
    """IDS over the frames, to the truth where there is one, else to the reference."""
    key = next((key for key in ("ids_gt", "ids_ref") if all(row.per_frame.get(key) for row in rows)), "")
    if not key:
        return ""
    target = {"ids_gt": "the truth", "ids_ref": "the reference"}[key]
    plot = line_plot(
        {row.name: row.per_frame[key] for row in rows}, f"IDS to {target}", "frame", "IDS", size=(1000, 420)
    )
    return "<h2>Identity over the frames</h2>" + picture(plot, f"IDS to {target} over the frames")
