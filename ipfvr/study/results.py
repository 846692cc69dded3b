"""The results of an experiment: means over people, paired differences, and verdicts on the claims of the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ipfvr.methods.settings import OURS
from ipfvr.metrics.columns import COLUMNS, LIKENESS, labelled
from ipfvr.metrics.info import MetricInfo
from ipfvr.metrics.intervals import Summary, summary_of
from ipfvr.study.cells import Store
from ipfvr.study.judge import choose_judge
from ipfvr.study.make import outcome
from ipfvr.study.paper import paper_table
from ipfvr.study.plan import Arm, settings_note
from ipfvr.study.schema import Claim, Experiment, Study

DONE, PARTLY, NOT_RUN, FAILED = "done", "partly", "not run", "failed"
DECIDED_BY = 4  # people; a bootstrap interval over fewer is hardly more than their range
HOLDS, FAILS, OPEN, NOT_DRAWN = "holds", "does not hold", "undecided", "not drawn"
Clips = Mapping[tuple[str, str], Mapping[str, float | None]]  # the numbers by (person, clip), then by metric


@dataclass(frozen=True)
class Difference:
    """The paired difference of two rows in one metric, averaged over the levels of each clip.

    Attributes:
        metric: the key of the metric.
        better, than: the rows; the difference is ``better`` minus ``than``.
        summary: the mean difference over people and its interval; None: there are no pairs.
        paper: the difference of the paper's numbers; None: the paper has none.
        verdict: ``holds`` if the interval lies on the side of the claim, ``does not hold`` if it lies on the other,
            ``undecided`` if it contains 0 or there are few people, ``not drawn`` if a LoRA was trained on every clip,
            ``not run``.
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
        title, row, level, method: see :class:`ipfvr.study.plan.Arm`.
        status: ``done``, ``partly`` (some clips failed), ``not run`` or ``failed``.
        reasons: why it is not done.
        summaries: the mean over people by metric key; None: there is no number.
        missing: why there is no number, by metric key.
        paper: the paper's numbers by metric key.
        notes: notes for the reader.
        commands: the command of its first clip.
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
    """Everything that a report shows, as plain values.

    Attributes:
        name, title, preset, columns: see :class:`ipfvr.study.schema.Experiment`.
        lines: the lines of the table.
        cells: the scores of each clip and seed.
        claims: the claims of the paper with their differences.
        footnotes: notes for the reader.
        judge: the recogniser behind likeness if a training has used it; empty: none has.
    """

    name: str
    title: str
    preset: str
    columns: list[str]
    lines: list[Line]
    cells: list[dict[str, Any]]
    claims: list[tuple[str, list[Difference]]]
    footnotes: list[str]
    judge: str = ""

    def label(self, metric: str) -> MetricInfo:
        """Return the label of a column; it names a recogniser that is not independent."""
        by = f"{self.judge}, not independent" if self.judge and metric in LIKENESS else ""
        return labelled(metric, by=by)

    @property
    def failed(self) -> list[Line]:
        """The lines that have a failed cell."""
        return [line for line in self.lines if line.status in (FAILED, PARTLY)]


def collect(study: Study, arms: Sequence[Arm], store: Store) -> Results:
    """Read the scores of all arms.

    Args:
        study: the experiment.
        arms: see :func:`ipfvr.study.plan.plan_arms`; their cells have been made or have failed.
        store: the store of the cells.
    """
    experiment, columns = study.experiment, study.experiment.columns
    paper = paper_table(experiment.paper)
    cells, lines, by_arm = [], [], {}
    for arm in arms:
        found = scores_of(arm, store)
        cells += found
        by_arm[arm.row, arm.level] = over_seeds(found, columns)
        lines.append(_line(arm, found, by_arm[arm.row, arm.level], columns, paper, store))
    trained_on = {p.name for arm in arms for t in arm.tasks if set((p := t.clip.person).test) & set(p.train)}
    claims = [(claim.says, decide(claim, by_arm, experiment, paper, trained_on)) for claim in experiment.claims]
    judge, notes = choose_judge(study.config()), list(experiment.footnotes)
    if any(row.method in OURS for row in experiment.rows.values()):
        notes.append(settings_note(study))
    if judge.note:
        notes.append(judge.note)
    named = judge.name if judge.note else ""
    return Results(study.name, experiment.title, study.preset, columns, lines, cells, claims, notes, named)


def scores_of(arm: Arm, store: Store) -> list[dict[str, Any]]:
    """Return the scores of a row's finished clips and seeds, each with its origin."""
    found = []
    for task in arm.tasks:
        if store.finished(task.scores):
            scores = json.loads((store.folder(task.scores) / "scores.json").read_text())
            where = {"row": arm.row, "level": arm.level, "clip": task.clip.name, "seed": task.seed}
            found.append({**scores, **where, "person": task.clip.person.name, "cell": task.scores.hash})
    return found


def over_seeds(cells: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Clips:
    """Return the mean over seeds by clip and metric; None: a seed has no number."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        grouped.setdefault((cell["person"], cell["clip"]), []).append(cell["scores"])
    return {
        clip: {key: _mean([row.get(key) for row in rows]) for key in columns} for clip, rows in sorted(grouped.items())
    }


def decide(
    claim: Claim,
    by_arm: Mapping[tuple[str, str], Clips],
    experiment: Experiment,
    paper: Mapping[str, Mapping[str, float]],
    trained_on: Set[str] = frozenset(),
) -> list[Difference]:
    """Compute the differences of a claim for each row and metric, over the clips that both rows have at all levels.

    Args:
        claim: the claim.
        by_arm: the numbers by row and level.
        experiment: the experiment, which describes the rows.
        paper: the paper's numbers by row and metric.
        trained_on: people whose test clips are also training clips; they are left out if a row has a LoRA.
    """
    found = []
    named = {name: row.paper or name for name, row in experiment.rows.items()}
    for than in claim.than or [name for name in experiment.rows if name != claim.better]:
        for metric in claim.metrics:
            found_at = [
                differences(by_arm.get((claim.better, level), {}), by_arm.get((than, level), {}), metric)
                for level in experiment.levels
            ]
            learnt = any(experiment.rows[name].lora for name in (claim.better, than) if name in experiment.rows)
            clips = [clip for clip in found_at[0] if not (learnt and clip[0] in trained_on)]
            summary = summary_of((clip[0], _mean([at.get(clip) for at in found_at])) for clip in clips)
            decision = NOT_DRAWN if found_at[0] and not clips else verdict(summary, metric)
            a, b = (paper.get(named.get(name, name), {}).get(metric) for name in (claim.better, than))
            printed = None if a is None or b is None else round(a - b, 6)
            found.append(Difference(metric, claim.better, than, summary, printed, decision))
    return found


def differences(ours: Clips, theirs: Clips, metric: str) -> dict[tuple[str, str], float]:
    """Return a row minus another in one metric, for each clip for which both have a number."""
    pairs = {clip: (ours[clip][metric], theirs[clip][metric]) for clip in ours if clip in theirs}
    return {clip: a - b for clip, (a, b) in pairs.items() if a is not None and b is not None}


def verdict(summary: Summary | None, metric: str) -> str:
    """Decide by a paired difference whether "better" holds."""
    if summary is None:
        return NOT_RUN
    if summary.people < DECIDED_BY or summary.low <= 0 <= summary.high:
        return OPEN
    return HOLDS if (summary.low > 0) == COLUMNS[metric].higher_is_better else FAILS


def _line(
    arm: Arm,
    cells: Sequence[Mapping[str, Any]],
    clips: Clips,
    columns: Sequence[str],
    paper: Mapping[str, Mapping[str, float]],
    store: Store,
) -> Line:
    failed, not_run = outcome([c for task in arm.tasks for c in (task.restored, task.scores)], store)
    status = FAILED if failed and not cells else PARTLY if failed else DONE if cells else NOT_RUN
    summaries = {key: summary_of((person, row[key]) for (person, _), row in clips.items()) for key in columns}
    missing = {}
    for key in columns:
        if cells and summaries[key] is None:
            reasons = [c["missing"].get(key, "this version of ipfvr has no such metric") for c in cells]
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
    """Return each note once, and join notes that differ only in the list after `` for: `` to one note.

    Each person's prompt is cut at a different place; a single note is enough for the reader.
    """
    lists: dict[str, list[str]] = {}
    for note in notes:
        head, found, tail = note.partition(" for: ")
        lists.setdefault(head if found else note, []).extend(tail.split(", ") if found else [])
    return [f"{head} for: {', '.join(dict.fromkeys(tail))}" if tail else head for head, tail in lists.items()]
