"""The sentences of the paper, and our verdicts on them: by the sign of differences, never by their size.

The paper measured other people at another size, so neither its numbers nor its differences are compared with ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ipfvr.report.numbers import interval
from ipfvr.study.results import FAILS, HOLDS, NOT_DRAWN, NOT_RUN, OPEN, Difference, Results

NOT_THE_PAPERS = "Not the paper's: "  # how an experiment marks a sentence of its own
VERDICTS = (HOLDS, FAILS, OPEN, NOT_DRAWN, NOT_RUN)


class Compared(NamedTuple):
    """One difference as text.

    Attributes:
        rows: the two rows, such as ``Ours minus Base``.
        metric: the title and unit of the metric.
        here: the mean difference and its interval.
        counted: the number of people and clips behind it.
        paper: the sign of the paper's own difference: ``higher``, ``lower``, ``equal``; empty: the paper has none.
        verdict: see :class:`ipfvr.study.results.Difference`.
    """

    rows: str
    metric: str
    here: str
    counted: str
    paper: str
    verdict: str


def compared(results: Results, difference: Difference) -> Compared:
    """Return a difference that has a number as text."""
    info, summary = results.label(difference.metric), difference.summary
    unit = f" ({info.unit})" if info.unit else ""
    return Compared(
        f"{difference.better} minus {difference.than}",
        info.title + unit,
        interval(summary, info, "+"),
        counted(summary.people, summary.clips),
        _side(difference, info.higher_is_better),
        difference.verdict,
    )


def counted(people: int, clips: int) -> str:
    """Format counts as ``8 clips of 2 people``."""
    return f"{clips} clip{'s' * (clips != 1)} of {people} {'people' if people != 1 else 'person'}"


def tally(differences: Sequence[Difference]) -> str:
    """Count each verdict, as in ``holds in 2, undecided in 1 of 3``."""
    counts = count_verdicts([d.verdict for d in differences])
    return ", ".join(f"{v} in {n}" for v, n in counts.items()) + f" of {len(differences)}"


def count_verdicts(verdicts: Sequence[str]) -> dict[str, int]:
    """Return how often each verdict occurs, in the order of :data:`VERDICTS`, without those that do not occur."""
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts}


def without_number(results: Results, differences: Sequence[Difference]) -> list[str]:
    """Return sentences on why some differences have no number."""
    ran = {d.than for d in differences if d.summary is not None}
    absent = [d for d in differences if d.summary is None]
    lines = []
    for verdict, reason in ((NOT_RUN, "Not run"), (NOT_DRAWN, "Not drawn, because the test clips are training clips")):
        names = [
            f"{d.than} in {results.label(d.metric).title}" if d.than in ran else d.than
            for d in absent
            if d.verdict == verdict
        ]
        if names:
            lines.append(f"{reason}: {', '.join(dict.fromkeys(names))}.")
    return lines


def conclusions(results: Results) -> list[str]:
    """Write a paragraph on each sentence of the paper: whether it holds, with paired differences and intervals."""
    paragraphs = []
    for says, differences in results.claims:
        found = [compared(results, d) for d in differences if d.summary is not None]
        sentences = [
            f"{c.rows}, {c.metric}: {c.here}, {c.counted}{f' (the paper: {c.paper})' * bool(c.paper)}: {c.verdict}."
            for c in found
        ]
        sentences += without_number(results, differences)
        whose = "" if says.startswith(NOT_THE_PAPERS) else "The paper: "
        paragraphs.append(f"{whose}{says} Here: {tally(differences)}. " + " ".join(sentences))
    return paragraphs


def _side(difference: Difference, higher_is_better: bool) -> str:
    if difference.paper is None:
        return ""
    side = "equal" if difference.paper == 0 else "higher" if difference.paper > 0 else "lower"
    against = difference.paper != 0 and (difference.paper > 0) != higher_is_better
    return f"{side}, against its own sentence" if against else side
