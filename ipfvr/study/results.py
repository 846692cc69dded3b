"""What an experiment found: numbers of its arms over clips, differences of pairs, and what the paper says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ipfvr.metrics.columns import COLUMNS
from ipfvr.metrics.intervals import Summary, summary_of
from ipfvr.study.cells import Store
from ipfvr.study.make import outcome
from ipfvr.study.paper import paper_table
from ipfvr.study.plan import Arm
from ipfvr.study.schema import Claim, Experiment, Study

DONE, PARTLY, NOT_RUN, FAILED = "done", "partly", "not run", "failed"
DECIDED_BY = 4  # clips: of fewer a bootstrap interval is hardly more than their range
HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"


@dataclass(frozen=True)
class Difference:
    """A row minus another, clip by clip, in one metric.

    Attributes:
        metric: its key.
        better, than: the rows.
        summary: the mean difference and its interval; None: there are no pairs.
        paper: the difference of the paper's numbers; None: it has none.
        verdict: ``holds`` where the interval lies on the side that the claim says, ``does not hold`` where it lies on
            the other, ``undecided`` where it holds 0 or there are few clips, ``not run``.
    """

    metric: str
    better: str
    than: str
    summary: Summary | None
    paper: float | None
    verdict: str


@dataclass
class Line:
    """An arm's line of the table.

    Attributes:
        title, row, level, method: what it is.
        status: ``done``, ``partly`` (some clips failed), ``not run`` or ``failed``.
        reasons: why, where it is not done.
        summaries: metric key to its mean over clips; None: no number.
        missing: metric key to why it has no number.
        paper: the paper's numbers by key.
        notes: what a reader must know.
        commands: of its first clip.
    """

    title: str
    row: str
    level: str
    method: str
    status: str
    reasons: list[str]
    summaries: dict[str, Summary | None]
    missing: dict[str, str] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


@dataclass
class Results:
    """Everything that a report shows; plain values."""

    name: str
    title: str
    preset: str
    columns: list[str]
    lines: list[Line]
    cells: list[dict[str, Any]]
    claims: list[tuple[str, list[Difference]]]
    footnotes: list[str]

    @property
    def failed(self) -> list[Line]:
        """The lines with a cell that crashed."""
        return [line for line in self.lines if line.status in (FAILED, PARTLY)]


def collect(study: Study, arms: Sequence[Arm], store: Store) -> Results:
    """Read the scores of all arms.

    Args:
        study: the experiment.
        arms: see :func:`ipfvr.study.plan.plan_arms`; their cells have been made, or tried.
        store: keeps them.
    """
    experiment, columns = study.experiment, study.experiment.columns
    paper = paper_table(experiment.paper)
    cells, lines, by_arm = [], [], {}
    for arm in arms:
        found = []
        for task in arm.tasks:
            if store.finished(task.scores):
                scores = json.loads((store.folder(task.scores) / "scores.json").read_text())
                where = {"row": arm.row, "level": arm.level, "clip": task.clip.name, "seed": task.seed}
                found.append({**where, "person": task.clip.person.name, "cell": task.scores.hash, **scores})
        cells += found
        by_arm[arm.row, arm.level] = over_seeds(found, columns)
        lines.append(_line(arm, found, by_arm[arm.row, arm.level], columns, paper, store))
    claims = [(claim.says, decide(claim, by_arm, experiment, paper)) for claim in experiment.claims]
    return Results(
        study.name, experiment.title, study.preset, columns, lines, cells, claims, list(experiment.footnotes)
    )


def over_seeds(cells: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Clip to metric to the mean over seeds; None where a seed has no number."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        grouped.setdefault(cell["clip"], []).append(cell["scores"])
    return {
        clip: {key: _mean([row.get(key) for row in rows]) for key in columns} for clip, rows in sorted(grouped.items())
    }


def decide(
    claim: Claim,
    by_arm: Mapping[tuple[str, str], Mapping[str, Mapping[str, float | None]]],
    experiment: Experiment,
    paper: Mapping[str, Mapping[str, float]],
) -> list[Difference]:
    """A claim's differences, a row and metric at a time, over the clips that both rows have, all levels together."""
    found = []
    named = {name: row.paper or name for name, row in experiment.rows.items()}
    for than in claim.than or [name for name in experiment.rows if name != claim.better]:
        for metric in claim.metrics:
            pairs = []
            for level in experiment.levels:
                ours, theirs = by_arm.get((claim.better, level), {}), by_arm.get((than, level), {})
                pairs += [(ours[clip][metric], theirs[clip][metric]) for clip in ours if clip in theirs]
            summary = summary_of([a - b for a, b in pairs if a is not None and b is not None])
            a, b = (paper.get(named.get(name, name), {}).get(metric) for name in (claim.better, than))
            printed = None if a is None or b is None else round(a - b, 6)
            found.append(Difference(metric, claim.better, than, summary, printed, verdict(summary, metric)))
    return found


def verdict(summary: Summary | None, metric: str) -> str:
    """What a paired difference says of "better"."""
    if summary is None:
        return NOT_RUN
    if summary.clips < DECIDED_BY or summary.low <= 0 <= summary.high:
        return OPEN
    return HOLDS if (summary.low > 0) == COLUMNS[metric].higher_is_better else FAILS


def _line(
    arm: Arm,
    cells: Sequence[Mapping[str, Any]],
    clips: Mapping[str, Mapping[str, float | None]],
    columns: Sequence[str],
    paper: Mapping[str, Mapping[str, float]],
    store: Store,
) -> Line:
    failed, not_run = outcome([c for task in arm.tasks for c in (task.restored, task.scores)], store)
    status = FAILED if failed and not cells else PARTLY if failed else DONE if cells else NOT_RUN
    summaries = {key: summary_of([row[key] for row in clips.values()]) for key in columns}
    missing = {}
    for key in columns:
        if cells and summaries[key] is None:
            reasons = [c["missing"].get(key, "ipfvr.evaluate of this version has no such metric") for c in cells]
            missing[key] = "; ".join(dict.fromkeys(reasons))
    records = [store.record(task.restored) for task in arm.tasks if store.finished(task.restored)]
    notes = [*arm.notes, *(note for record in records for note in record["notes"])]
    return Line(
        arm.title,
        arm.row,
        arm.level,
        arm.spec.method,
        status,
        [reason for reason in (arm.reason, *failed, *not_run) if reason],
        summaries,
        missing,
        dict(paper.get(arm.spec.paper or arm.row, {})),
        merged([*([arm.spec.note] if arm.spec.note else []), *notes]),
        [records[0]["command"]] if records else [],
    )


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def merged(notes: Sequence[str]) -> list[str]:
    """Every note once; those that end in a list after `` for: `` and agree before it become one, with all of the list.

    The words of each person are cut at another place: what a reader must know is that they are.
    """
    lists: dict[str, list[str]] = {}
    for note in notes:
        head, found, tail = note.partition(" for: ")
        lists.setdefault(head if found else note, []).extend(tail.split(", ") if found else [])
    return [f"{head} for: {', '.join(dict.fromkeys(tail))}" if tail else head for head, tail in lists.items()]
