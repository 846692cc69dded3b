"""One HTML page a run: everything is inside it, so it opens anywhere without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from ipfvr.metrics.columns import COLUMNS
from ipfvr.metrics.intervals import CONFIDENCE
from ipfvr.report.html import bullets, comparison, definitions, document, picture
from ipfvr.report.tables import cell_text, conclusions, direction, footnotes, line_notes, missing_note
from ipfvr.study.results import DONE, Line, Results

_ARROWS = {"better": "▲ better", "worse": "▼ worse", "equal": "= equal", "": ""}


@dataclass
class Exhibit:
    """What a page shows beside its table.

    Attributes:
        videos: clip to the name of a version to its mp4 file; the first two are compared when the page opens.
        pictures: title to an (H, W, 3) uint8 RGB picture: plots and strips.
        protocol: subject to sentence.
        commands: title to a command line.
        facts: what made the run, a line each.
    """

    videos: dict[str, dict[str, Path]] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    protocol: Mapping[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    facts: Sequence[str] = ()


def page(results: Results, exhibit: Exhibit) -> str:
    """The page's text."""
    notes = footnotes(results)
    beside = "."
    if any(line.paper for line in results.lines):
        beside = (
            "; below it the paper's number and on which side of it ours lies. The paper measured other people at "
            "another size: its numbers are for the order of rows."
        )
    body = [
        f"<h1>{escape(results.title)}</h1>",
        f"<p class=lead>Preset <b>{escape(results.preset)}</b>. Each cell: our mean over clips "
        f"[{CONFIDENCE:.0%} bootstrap interval over clips]{beside}</p>",
        table(results, notes),
        '<ol class="notes">' + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ol>" if notes else "",
        "<h2>Conclusions</h2>" if results.claims else "",
        *(f"<p>{escape(text)}</p>" for text in conclusions(results)),
        _not_run(results.lines, exhibit.commands),
        "<h2>Side by side</h2>" if exhibit.videos else "",
        *(comparison(number, clip, versions) for number, (clip, versions) in enumerate(exhibit.videos.items())),
        *(f"<h2>{escape(title)}</h2>{picture(image, title)}" for title, image in exhibit.pictures.items()),
        "<h2>Protocol</h2>",
        definitions(exhibit.protocol),
        "<h2>Commands</h2>",
        *(f"<h3>{escape(title)}</h3><pre>{escape(line)}</pre>" for title, line in exhibit.commands.items()),
        "<h2>What made this</h2>" + bullets(exhibit.facts),
    ]
    return document(results.title, body)


def table(results: Results, notes: Sequence[str]) -> str:
    """The table: ours, the paper's, and the direction of the difference."""
    marks = {note: number for number, note in enumerate(notes, 1)}
    head = "".join(f"<th>{escape(COLUMNS[key].heading)}</th>" for key in results.columns)
    rows = []
    for line in results.lines:
        cells = [f"<th>{escape(line.title)}{_marks(line_notes(line), marks)}</th>"]
        for key in results.columns:
            said = [missing_note(key, line.missing[key])] if key in line.missing else []
            way = direction(line, key)
            paper = (
                f"paper {line.paper[key]:g} <b class={way or 'none'}>{_ARROWS[way]}</b>" if key in line.paper else ""
            )
            text = f"{escape(cell_text(line, key))}{_marks(said, marks)}"
            cells.append(f"<td>{text}<div class=paper>{paper}</div></td>")
        rows.append(f'<tr class="{"done" if line.status == DONE else "lacking"}">{"".join(cells)}</tr>')
    return f"<div class=wide><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"


def _marks(notes: Sequence[str], marks: Mapping[str, int]) -> str:
    found = list(dict.fromkeys(marks[note] for note in notes))
    return f"<sup>{','.join(map(str, found))}</sup>" if found else ""


def _not_run(lines: Sequence[Line], commands: Mapping[str, str]) -> str:
    lacking = [line for line in lines if line.status != DONE]
    if not lacking:
        return ""
    items = "".join(
        f"<li><b>{escape(line.title)}</b> {escape(line.status)}: {escape('; '.join(line.reasons))}</li>"
        for line in lacking
    )
    return f"<h2>What did not run</h2><ul>{items}</ul>"
