"""One HTML page with thumbnails of what ``python -m ipfvr.prepare`` kept and dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipfvr.prepare.candidates import Candidate
from ipfvr.report.html import render

PARTS = ("reference", "train", "test")


def contact_sheet(people: Mapping[str, Sequence[Candidate]], remarks: Mapping[str, Sequence[str]]) -> str:
    """Return the page; it needs no other file and no network.

    Args:
        people: every candidate of each person.
        remarks: notes on each person, one line each.
    """
    return render(
        "contact.html",
        title="prepare: what was kept",
        kept=sum(not c.dropped for cs in people.values() for c in cs),
        total=sum(map(len, people.values())),
        people=[
            {
                "name": name,
                "counts": ", ".join(f"{sum(c.part == part for c in cs)} {part}" for part in PARTS),
                "remarks": remarks.get(name, ()),
                "figures": [_figure(candidate) for candidate in cs],
            }
            for name, cs in people.items()
        ],
    )


def _figure(candidate: Candidate) -> dict[str, Any]:
    frames = f", frames {candidate.start} to {candidate.stop - 1}" if candidate.stop - candidate.start > 1 else ""
    facts = [f"{candidate.width:.0f} px wide"] if candidate.width else []
    facts += [f"detail {candidate.detail:.0f} px"] if candidate.detail is not None else []
    facts += [f"cosine {candidate.cosine:.2f}"] if candidate.cosine is not None else []
    return {
        "kind": "dropped" if candidate.dropped else "kept",
        "thumbnail": candidate.thumbnail,
        "verdict": candidate.dropped or f"{candidate.part}/{candidate.name}",
        "lines": [line for line in (candidate.source.name + frames, ", ".join(facts)) if line],
    }
