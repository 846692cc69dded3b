"""An experiment's table as CSV, Markdown, LaTeX and JSON: the same numbers each time."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ipfvr.metrics.columns import COLUMNS
from ipfvr.metrics.info import MetricInfo
from ipfvr.metrics.intervals import CONFIDENCE, Summary
from ipfvr.study.results import DONE, FAILS, HOLDS, NOT_RUN, OPEN, Difference, Line, Results

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {character: "\\" + character for character in "&%$#_{}"}
_SYMBOLS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}


def results_json(results: Results) -> dict[str, Any]:
    """Everything, frame by frame, as JSON values."""
    content = asdict(results)
    content["columns"] = {key: asdict(COLUMNS[key]) for key in results.columns}
    content["claims"] = [{"says": says, "differences": [asdict(d) for d in found]} for says, found in results.claims]
    return content


def csv_table(results: Results) -> str:
    """A line a row: mean, ends of the interval, people, clips and the paper's number of each metric, unrounded."""
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
    """The table, with footnotes for what is not there, and the conclusions."""
    notes = footnotes(results)
    marks = {note: number for number, note in enumerate(notes, 1)}
    head = ["", *(COLUMNS[key].heading for key in results.columns)]
    lines = [_row(head), "|---" * len(head) + "|"]
    for line in results.lines:
        cells = [f"{_markdown(line.title)}{_marks(line_notes(line), marks)}"]
        for key in results.columns:
            cell = cell_text(line, key)
            if line.summaries[key] is None and key in line.missing:
                cell += _marks([missing_note(key, line.missing[key])], marks)
            cells.append(cell)
        lines.append(_row(cells))
        if line.paper:
            cells = [_printed(line, key) for key in results.columns]
            lines.append(_row([f"{_markdown(line.title)}, paper", *cells]))
    text = f"# {results.title}\n\nPreset {results.preset}. Mean over clips [{CONFIDENCE:.0%} bootstrap interval].\n\n"
    text += "\n".join(lines) + "\n"
    if notes:
        text += "\n" + "\n".join(f"{number}. {_markdown(note)}" for note, number in marks.items()) + "\n"
    for sentence in conclusions(results):
        text += f"\n{_markdown(sentence)}\n"
    return text


def latex_table(results: Results) -> str:
    """The table for a paper: needs the package booktabs; the best of each column is bold."""
    best = {key: _best(results.lines, key) for key in results.columns}
    lines = [r"% \usepackage{booktabs}", r"\begin{tabular}{l" + "r" * len(results.columns) + "}", r"\toprule"]
    lines.append(" & ".join(["", *(_tex(COLUMNS[key].heading) for key in results.columns)]) + r" \\")
    lines.append(r"\midrule")
    for line in results.lines:
        cells = [_tex(line.title)]
        for key in results.columns:
            text, found = _tex(cell_text(line, key)), line.summaries[key]
            cells.append(rf"\textbf{{{text}}}" if found is not None and found.mean == best[key] else text)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def number(value: float | None, info: MetricInfo, sign: str = "") -> str:
    """A number with the metric's decimals."""
    return "n/a" if value is None else f"{value:{sign}.{info.digits}f}"


def interval(summary: Summary | None, info: MetricInfo, sign: str = "") -> str:
    """``mean [low, high]``."""
    if summary is None:
        return "n/a"
    text = number(summary.mean, info, sign)
    if summary.low is None:
        return text
    return f"{text} [{number(summary.low, info, sign)}, {number(summary.high, info, sign)}]"


def cell_text(line: Line, key: str) -> str:
    """What stands in a cell."""
    if line.summaries[key] is None:
        return "n/a" if line.status in (DONE,) or key in line.missing else line.status
    return interval(line.summaries[key], COLUMNS[key])


def direction(line: Line, key: str) -> str:
    """Ours against the paper's number: ``better``, ``worse``, ``equal``; empty where one is missing."""
    ours, theirs, info = line.summaries[key], line.paper.get(key), COLUMNS[key]
    if ours is None or theirs is None:
        return ""
    if number(ours.mean, info) == number(theirs, info):
        return "equal"
    return "better" if (ours.mean > theirs) == info.higher_is_better else "worse"


def _printed(line: Line, key: str) -> str:
    """The paper's number and where ours lies."""
    if key not in line.paper:
        return ""
    way = direction(line, key)
    return f"{line.paper[key]:g}" + (f" (ours: {way})" if way else "")


def missing_note(key: str, reason: str) -> str:
    """The footnote of a number that is not there."""
    return f"{COLUMNS[key].title} n/a: {reason}"


def line_notes(line: Line) -> list[str]:
    """The footnotes of a row; what is said of several rows is the same note, to which each of them points."""
    said = [f"{line.title} {line.status}: {reason}" for reason in line.reasons] if line.status != DONE else []
    return [*said, *(note for note in line.notes if note not in "; ".join(line.reasons))]


def footnotes(results: Results) -> list[str]:
    """Every footnote, once: of rows, of numbers that are not there, and the experiment's own."""
    found = [note for line in results.lines for note in line_notes(line)]
    found += [missing_note(key, reason) for line in results.lines for key, reason in line.missing.items()]
    return list(dict.fromkeys([*found, *results.footnotes]))


def conclusions(results: Results) -> list[str]:
    """A paragraph a claim: whether it holds here, with the paired differences and their intervals."""
    paragraphs = []
    for says, differences in results.claims:
        verdicts = {v: sum(d.verdict == v for d in differences) for v in (HOLDS, FAILS, OPEN, NOT_RUN)}
        counted = ", ".join(f"{verdict} in {count}" for verdict, count in verdicts.items() if count)
        sentences = [_sentence(d) for d in differences if d.summary is not None]
        ran = {d.than for d in differences if d.summary is not None}
        absent = [
            d.than if d.than not in ran else f"{d.than} in {COLUMNS[d.metric].title}"
            for d in differences
            if d.summary is None
        ]
        if absent:
            sentences.append(f"Not run: {', '.join(dict.fromkeys(absent))}.")
        paragraphs.append(f"The paper: {says} Here: {counted} of {len(differences)}. " + " ".join(sentences))
    return paragraphs


def _sentence(difference: Difference) -> str:
    info = COLUMNS[difference.metric]
    text = f"{difference.better} minus {difference.than}, {info.title}: {interval(difference.summary, info, '+')}"
    text += f" over {difference.summary.clips} clip{'s' * (difference.summary.clips != 1)}"
    if difference.paper is not None:
        text += f" (paper {difference.paper:+g}"
        against = difference.paper != 0 and (difference.paper > 0) != info.higher_is_better
        text += ", which is against its own sentence)" if against else ")"
    return f"{text}: {difference.verdict}."


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
