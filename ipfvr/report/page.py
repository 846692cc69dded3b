"""The self-contained HTML page of a run, which opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.report.html import render
from ipfvr.report.numbers import ends, number
from ipfvr.report.sentences import compared, tally, without_number
from ipfvr.report.tables import (
    cell_text,
    explanation,
    folded,
    footnotes,
    line_notes,
    missing_note,
    shown_columns,
    shown_lines,
)
from ipfvr.study.results import DONE, FAILS, HOLDS, Difference, Line, Results


@dataclass
class Exhibit:
    """The content of a page beside its table.

    Attributes:
        videos: the mp4 file by clip and by version; the page compares two of them.
        pictures: plots and strips by title, (H, W, 3) uint8 RGB.
        protocol: a sentence by subject.
        commands: a command line by title.
        facts: facts on the data and versions of the run, one line each.
        opening: the version that a comparison shows on the left at first; empty: the first one.
    """

    videos: dict[str, dict[str, Path]] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    protocol: Mapping[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    facts: Sequence[str] = ()
    opening: str = ""


def page(results: Results, exhibit: Exhibit) -> str:
    """Return the page as HTML text."""
    notes, columns = footnotes(results), shown_columns(results)
    marks = {note: place for place, note in enumerate(notes, 1)}
    below = "The interval stands below the mean" + (", then the paper's number." if _has_paper(results) else ".")
    return render(
        "results.html",
        title=results.title,
        preset=results.preset,
        explanation=f"{explanation(results)} {below}",
        headings=[results.label(key).heading for key in columns],
        rows=[_row(results, line, columns, marks) for line in shown_lines(results)],
        folded=folded(results),
        notes=notes,
        sentences=[_sentence(results, says, differences) for says, differences in results.claims],
        crashed=[line for line in shown_lines(results) if line.status != DONE],
        exhibit=exhibit,
    )


def _row(results: Results, line: Line, columns: Sequence[str], marks: Mapping[str, int]) -> dict[str, Any]:
    """Return a row of the table: in each column our mean, its interval and the paper's number."""
    cells = []
    for key in columns:
        summary, info = line.summaries[key], results.label(key)
        missing = [missing_note(results, key, line.missing[key])] if key in line.missing else []
        cells.append(
            {
                "text": cell_text(line, key) if summary is None else number(summary.mean, info),
                "ends": [] if summary is None else ends(summary, info),
                "marks": _marks(missing, marks),
                "paper": f"{line.paper[key]:g}" if key in line.paper else "",
            }
        )
    return {
        "title": line.title,
        "done": line.status == DONE,
        "marks": _marks(line_notes(line), marks),
        "cells": cells,
    }


def _has_paper(results: Results) -> bool:
    return any(line.paper for line in shown_lines(results))


def _marks(notes: Sequence[str], marks: Mapping[str, int]) -> list[int]:
    """Return the numbers of footnotes, each once."""
    return list(dict.fromkeys(marks[note] for note in notes))


def _sentence(results: Results, says: str, differences: Sequence[Difference]) -> dict[str, Any]:
    """Return a sentence of the paper, the verdicts on it, and the differences behind them."""
    found = [compared(results, difference) for difference in differences if difference.summary is not None]
    kinds = {HOLDS: "better", FAILS: "worse"}
    return {
        "says": says,
        "tally": tally(differences),
        "differences": [{**one._asdict(), "kind": kinds.get(one.verdict, "none")} for one in found],
        "rest": without_number(results, differences),
    }
