"""One HTML page with thumbnails of what ``python -m ipfvr.prepare`` kept and dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from ipfvr.prepare.candidates import Candidate
from ipfvr.report.html import document


def contact_sheet(people: Mapping[str, Sequence[Candidate]], remarks: Mapping[str, Sequence[str]]) -> str:
    """The page; it needs no other file and no network.

    Args:
        people: every candidate of each person.
        remarks: notes on each person, one line each.
    """
    kept = sum(not c.dropped for cs in people.values() for c in cs)
    total = sum(map(len, people.values()))
    parts = [
        "<h1>What was kept</h1>",
        f"<p>{kept} of {total} pictures and scenes of {len(people)} people. Green: kept; red: dropped, and why.</p>",
    ]
    for name, candidates in people.items():
        counts = [f"{sum(c.part == part for c in candidates)} {part}" for part in ("reference", "train", "test")]
        parts.append(f"<h2>{escape(name)}</h2><p>{', '.join(counts)}</p>")
        parts += [f"<p>{escape(remark)}</p>" for remark in remarks.get(name, ())]
        parts += [_figure(candidate) for candidate in candidates]
    return document("prepare: what was kept", parts)


def _figure(candidate: Candidate) -> str:
    shown = f'<img alt="" src="{candidate.thumbnail}">' if candidate.thumbnail else "<div class=blank></div>"
    frames = f", frames {candidate.start} to {candidate.stop - 1}" if candidate.stop - candidate.start > 1 else ""
    facts = [f"{candidate.width:.0f} px wide"] if candidate.width else []
    facts += [f"detail {candidate.detail:.0f} px"] if candidate.detail is not None else []
    facts += [f"cosine {candidate.cosine:.2f}"] if candidate.cosine is not None else []
    verdict = candidate.dropped or f"{candidate.part}/{candidate.name}"
    lines = [f"<b>{escape(verdict)}</b>", escape(candidate.source.name + frames), escape(", ".join(facts))]
    kind = "dropped" if candidate.dropped else "kept"
    return (
        f'<figure class="candidate {kind}">{shown}'
        f"<figcaption>{'<br>'.join(line for line in lines if line)}</figcaption></figure>"
    )
