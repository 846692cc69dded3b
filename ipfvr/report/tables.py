"""The table of an experiment as CSV, Markdown, LaTeX and JSON, with the same numbers in each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ipfvr.metrics.columns import COLUMNS
from ipfvr.metrics.intervals import CONFIDENCE
from ipfvr.report.numbers import interval
from ipfvr.report.sentences import conclusions, counted
from ipfvr.study.results import DONE, NOT_RUN, Line, Results

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {character: "\\" + character for character in "&%$#_{}"}
_SYMBOLS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}


def results_json(results: Results) -> dict[str, Any]:
    """Return all results, frame by frame, as JSON values."""
    content = asdict(results)
    content["columns"] = {key: asdict(results.label(key)) for key in results.columns}
    content["claims"] = [{"says": says, "differences": [asdict(d) for d in found]} for says, found in results.claims]
    return content


def csv_table(results: Results) -> str:
    """Write a line for each row: unrounded mean, interval, people, clips and the paper's number of each metric."""
    parts = ("mean", "low", "high", "people", "clips", "paper")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = [f"{key}_{part}" for key in results.columns for part in parts]
    writer.writerow(["row", "level", "method", "status", "reason", *head])
    for line in results.lines:
        cells: list[Any] = [line.row, line.level, line.method, line.status, "; ".join(line.reasons)]
        for key in results.columns:
            found = line.summaries[key]
            cells += [found.mean, found.low, found.high, found.people, found.clips] if found else [None] * 5
            cells.append(line.paper.get(key))
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def markdown_table(results: Results) -> str:
    """Write the table with its footnotes, the rows and columns that are left out, and the conclusions."""
    notes, columns = footnotes(results), shown_columns(results)
    marks = {note: number for number, note in enumerate(notes, 1)}
    head = ["", *(results.label(key).heading for key in columns)]
    lines = [_row(head), "|---" * len(head) + "|"]
    for line in shown_lines(results):
        cells = [f"{_markdown(line.title)}{_marks(line_notes(line), marks)}"]
        for key in columns:
            cell = cell_text(line, key)
            if line.summaries[key] is None and key in line.missing:
                cell += _marks([missing_note(results, key, line.missing[key])], marks)
            cells.append(cell)
        lines.append(_row(cells))
        if line.paper:
            printed = [f"{line.paper[key]:g}" if key in line.paper else "" for key in columns]
            lines.append(_row([f"{_markdown(line.title)}, paper", *printed]))
    text = f"# {results.title}\n\nPreset {results.preset}. {explanation(results)}\n\n" + "\n".join(lines) + "\n"
    if away := folded(results):
        text += f"\nNot in the table: {', '.join(_markdown(name) for name, _ in away)}.\n\n"
        text += "\n".join(f"- {_markdown(name)}: {_markdown(why)}" for name, why in away) + "\n"
    if notes:
        text += "\n" + "\n".join(f"{number}. {_markdown(note)}" for note, number in marks.items()) + "\n"
    for sentence in conclusions(results):
        text += f"\n{_markdown(sentence)}\n"
    return text


def explanation(results: Results) -> str:
    """Explain the numbers of the table: over which people they are means, and how to read the paper's numbers."""
    people, clips = ({cell[part] for cell in results.cells} for part in ("person", "clip"))
    text = f"Means over {counted(len(people), len(clips))} [{CONFIDENCE:.0%} interval over people and their clips]."
    if any(line.paper for line in shown_lines(results)):
        text += " The paper's numbers are for other people at another size: compare only the signs of differences."
    return text


def latex_table(results: Results) -> str:
    """Write the table in LaTeX with the package booktabs; the best value of each column is bold."""
    columns = shown_columns(results)
    best = {key: _best(results.lines, key) for key in columns}
    lines = [r"% \usepackage{booktabs}", r"\begin{tabular}{l" + "r" * len(columns) + "}", r"\toprule"]
    lines.append(" & ".join(["", *(_tex(results.label(key).heading) for key in columns)]) + r" \\")
    lines.append(r"\midrule")
    for line in shown_lines(results):
        cells = [_tex(line.title)]
        for key in columns:
            text, found = _tex(cell_text(line, key)), line.summaries[key]
            cells.append(rf"\textbf{{{text}}}" if found is not None and found.mean == best[key] else text)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def cell_text(line: Line, key: str) -> str:
    """Return the text of a cell."""
    if line.summaries[key] is None:
        return "n/a" if line.status in (DONE,) or key in line.missing else line.status
    return interval(line.summaries[key], COLUMNS[key])


def missing_note(results: Results, key: str, reason: str) -> str:
    """Return the footnote of a missing number."""
    return f"{results.label(key).title} n/a: {reason}"


def shown_lines(results: Results) -> list[Line]:
    """Return the rows of the table: those that ran or failed."""
    return [line for line in results.lines if line.status != NOT_RUN]


def shown_columns(results: Results) -> list[str]:
    """Return the columns of the table: those with a number in at least one row."""
    return [key for key in results.columns if any(line.summaries[key] for line in results.lines)]


def folded(results: Results) -> list[tuple[str, str]]:
    """Return the rows and columns that are left out of the table, with the reason and the remedy."""
    found = [(line.title, "; ".join(line.reasons)) for line in results.lines if line.status == NOT_RUN]
    shown = shown_columns(results)
    for key in results.columns if shown else ():
        if key not in shown:
            reasons = [line.missing[key] for line in shown_lines(results) if key in line.missing]
            found.append((results.label(key).title, "; ".join(dict.fromkeys(reasons)) or "no clip has a number"))
    return found


def line_notes(line: Line) -> list[str]:
    """Return the footnotes of a row; rows with the same note share one footnote."""
    failures = [f"{line.title} {line.status}: {reason}" for reason in line.reasons] if line.status != DONE else []
    return [*failures, *(note for note in line.notes if note not in "; ".join(line.reasons))]


def footnotes(results: Results) -> list[str]:
    """Return every footnote once: those of rows, those of missing numbers, and the experiment's own."""
    lines, shown = shown_lines(results), shown_columns(results)
    found = [note for line in lines for note in line_notes(line)]
    found += [missing_note(results, k, reason) for line in lines for k, reason in line.missing.items() if k in shown]
    return list(dict.fromkeys([*found, *results.footnotes]))


def _best(lines: Sequence[Line], key: str) -> float | None:
    means = [line.summaries[key].mean for line in lines if line.summaries[key] is not None]
    return (max if COLUMNS[key].higher_is_better else min)(means) if means else None


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _marks(notes: Sequence[str], marks: dict[str, int]) -> str:
    return "".join(f" ({marks[note]})" for note in dict.fromkeys(notes))


def _markdown(text: str) -> str:
    return text.replace("|", r"\|")


def _tex(text: str) -> str:
    escaped = "".join(_TEX.get(character, character) for character in text)
    for symbol, command in _SYMBOLS.items():
        escaped = escaped.replace(symbol, command)
    return escaped
