"""One HTML page a run: everything is inside it, so it opens anywhere without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from ipfvr.report.html import bullets, comparison, definitions, document, picture
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
    below = (
        " Below a mean its interval, then the paper's number." if _has_paper(results) else " Below a mean its interval."
    )
    body = [
        f"<h1>{escape(results.title)}</h1>",
        f"<p class=lead>Preset <b>{escape(results.preset)}</b>. {escape(explanation(results) + below)}</p>",
        table(results, notes),
        _folded(folded(results)),
        '<ol class="notes">' + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ol>" if notes else "",
        "<h2>What the paper says, and what holds here</h2>" if results.claims else "",
        *(_sentence(results, says, differences) for says, differences in results.claims),
        _crashed(shown_lines(results)),
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
    """The table: ours and, below it, the paper's number."""
    columns, marks = shown_columns(results), {note: number for number, note in enumerate(notes, 1)}
    if not columns:
        return "<p>Nothing has a number yet.</p>"
    head = "".join(f"<th>{escape(results.label(key).heading)}</th>" for key in columns)
    rows = []
    for line in shown_lines(results):
        cells = [f"<th>{escape(line.title)}{_marks(line_notes(line), marks)}</th>"]
        for key in columns:
            said = [missing_note(results, key, line.missing[key])] if key in line.missing else []
            paper = f"<div class=paper>paper {line.paper[key]:g}</div>" if key in line.paper else ""
            cells.append(f"<td>{_cell(results, line, key)}{_marks(said, marks)}{paper}</td>")
        rows.append(f'<tr class="{"done" if line.status == DONE else "lacking"}">{"".join(cells)}</tr>')
    return f"<div class=wide><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"


def _cell(results: Results, line: Line, key: str) -> str:
    """The mean, and its interval in a line of its own: so a table of ten columns fits a window."""
    summary, info = line.summaries[key], results.label(key)
    if summary is None:
        return escape(cell_text(line, key))
    below = "".join(f" <span class=ends>{escape(text)}</span>" for text in ends(summary, info))
    return f"{number(summary.mean, info)}{below}"


def _has_paper(results: Results) -> bool:
    return any(line.paper for line in shown_lines(results))


def _marks(notes: Sequence[str], marks: Mapping[str, int]) -> str:
    found = list(dict.fromkeys(marks[note] for note in notes))
    return f"<sup>{','.join(map(str, found))}</sup>" if found else ""


def _folded(away: Sequence[tuple[str, str]]) -> str:
    """One line that names what is not here; opened it says why, and what would make it run."""
    if not away:
        return ""
    names = ", ".join(f"<b>{escape(name)}</b>" for name, _ in away)
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(why)}</dd>" for name, why in away)
    said = f"<summary>Not here: {names}. Why, and what would run them</summary>"
    return f"<details class=notes>{said}<dl>{items}</dl></details>"


def _sentence(results: Results, says: str, differences: Sequence[Difference]) -> str:
    """A sentence of the paper, how it came out, and the differences behind that."""
    rows = []
    for difference in differences:
        if difference.summary is not None:
            *words, said = compared(results, difference)
            kind = {HOLDS: "better", FAILS: "worse"}.get(said, "none")
            cells = "".join(f"<td>{escape(word)}</td>" for word in words[1:])
            rows.append(f"<tr><th>{escape(words[0])}</th>{cells}<td><b class={kind}>{escape(said)}</b></td></tr>")
    names = "".join(f"<th>{name}</th>" for name in ("", "in", "difference here", "over", "in the paper", "so it"))
    shown = f"<div class=wide><table class=words><tr>{names}</tr>{''.join(rows)}</table></div>" if rows else ""
    rest = "".join(f"<p class=notes>{escape(line)}</p>" for line in without_number(results, differences))
    return f"<h3>{escape(says)}</h3><p>Here: {escape(tally(differences))}.</p>{shown}{rest}"


def _crashed(lines: Sequence[Line]) -> str:
    lacking = [line for line in lines if line.status != DONE]
    if not lacking:
        return ""
    items = "".join(
        f"<li><b>{escape(line.title)}</b> {escape(line.status)}: {escape('; '.join(line.reasons))}</li>"
        for line in lacking
    )
    return f"<h2>What crashed</h2><ul>{items}</ul>"
