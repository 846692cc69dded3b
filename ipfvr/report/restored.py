"""The page of one restored film or picture: before and after, people, omissions, and the command to repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.core.choices import OTHERS
from ipfvr.report.html import render

_SHOWN = 12  # the most stretches of frames in a list


@dataclass(frozen=True)
class Pair:
    """A frame, or a part of one, before and after.

    Attributes:
        title: a title such as ``frame 12, 0.48 s``.
        before: (H, W, 3) uint8 RGB.
        after: the same part after the restoration, of the same size.
    """

    title: str
    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page.

    Attributes:
        frames: whole frames.
        faces: close-ups of each person's face in several frames, by name.
        references: aligned crops (size, size, 3) uint8 RGB of each person's pictures, by name.
    """

    frames: Sequence[Pair] = ()
    faces: Mapping[str, Sequence[Pair]] = field(default_factory=dict)
    references: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)


def restored_page(report: Mapping[str, Any], pictures: Pictures) -> str:
    """Return the page as HTML text; it opens without a network.

    Args:
        report: the JSON of :func:`ipfvr.film.run.restore`, which holds every number on the page.
        pictures: the pictures of the same run.
    """
    name, settings = Path(report["output"]).name, json.dumps(report["configuration"], indent=2)
    return render(
        "restored.html",
        title=f"{name}: before and after",
        lead=_lead(report),
        frames=pictures.frames,
        people=[_person(who, found, report, pictures) for who, found in report["people"].items()],
        left_out=left_out(report),
        notes=report["notes"],
        command=report["command"],
        made_by=_made_by(report),
        settings=settings,
    )


def batch_page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a page with links to the pages of many files.

    Args:
        rows: for each file ``file``, ``status``, ``frames``, ``restored``, ``seconds``, ``error``, and ``page``: the
            relative address of its page; empty: it has none.
    """
    named = [{**row, "name": Path(row["file"]).name} for row in rows]
    columns = ("status", "frames", "restored", "seconds", "error")
    return render("batch.html", title=f"{len(rows)} restored files", rows=named, columns=columns)


def left_out(report: Mapping[str, Any]) -> dict[str, str]:
    """Return what was not restored or not kept, and why, by subject."""
    alone, without, cuts = report["left_alone"], report["faceless"], report["cuts"]
    faces = sum(stop - start for start, stop in without)
    sound = {"copied": "copied untouched", "none": "the source has none"}.get(report["sound"], report["sound"])
    return {
        "Faces left alone": (
            f"{len(alone)}, of people without a reference: {_stretches([(f['start'], f['stop']) for f in alone])}"
            if alone
            else "none"
        ),
        "Frames without a face": (
            f"{faces} of {report['frames']}, unchanged: {_stretches(without)}" if without else "none"
        ),
        "Cuts": (f"{len(cuts)}; clips do not cross a cut: frames {_list(map(str, cuts))}" if cuts else "none found"),
        "Damaged frames": _list(map(str, report["damaged_frames"])) or "none",
        "Sound": sound,
        "Other streams": "; ".join(report["left_out"]) or "nothing was left out",
    }


def _lead(report: Mapping[str, Any]) -> str:
    made = f"Restored by AI with ipfvr {report['versions']['ipfvr']} from {Path(report['input']).name}"
    return f"{made}: {report['restored']} of {report['frames']} frames have a restored face."


def _person(who: str, found: Mapping[str, Any], report: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    name = {"": "The person of the reference", OTHERS: "Faces of other people"}.get(who, who)
    if who == OTHERS and len(report["people"]) == 1:
        name = "Every face, because no reference was given"
    return {
        "name": name,
        "facts": _facts(found, report, who == OTHERS),
        "faces": pictures.faces.get(who, ()),
        "references": pictures.references.get(who, ()),
    }


def _facts(found: Mapping[str, Any], report: Mapping[str, Any], others: bool) -> dict[str, str]:
    """Return the facts on a person that the report holds, by subject."""
    # One frame can show several faces of other people.
    frames = f"{found['frames']} faces" if others else f"in {found['frames']} of {report['frames']} frames"
    facts = {"Seen": f"{frames}, in {_count(found['tracks'], 'stretch')}"}
    if cosines := found["cosines"]:
        facts["Likeness to the reference"] = f"cosine {_range(cosines)}"
    if references := found.get("references"):
        facts["References"] = ", ".join(Path(path).name for path in references)
    if (prompt := found.get("image_prompt")) is not None:
        facts["Image prompt"] = prompt
    if (change := found.get("reference_change")) is not None:
        facts["What the reference changed"] = f"{change} grey levels of the face on average"
    if lora := found.get("lora"):
        facts["LoRA"] = str(lora["person"])
    if words := (found.get("words") or {}).get("positive"):
        facts["Words"] = words
    return facts


def _made_by(report: Mapping[str, Any]) -> dict[str, str]:
    settings = report["configuration"]
    return {
        "Settings": f"preset {settings['preset']}, seed {report['seed']}, solver steps {settings['sampler']['steps']}, "
        f"{settings['video']['size']} pixels a face",
        "Work": f"{report['seconds']} s on {report['device']}, peak memory {report['peak_memory_mb']} MB",
        "Made": f"{report['date']}, commit {report['versions']['commit']}",
        "Weights": "; ".join(f"{part}: {Path(record['path']).name}" for part, record in report["weights"].items()),
    }


def _stretches(ranges: Sequence[Sequence[int]]) -> str:
    """Format ranges (start, stop) of frames as ``frames 0-11, 30``; the stop is not part of a range."""
    return "frames " + _list(f"{a}-{b - 1}" if b - a > 1 else str(a) for a, b in ranges)


def _list(words: Any) -> str:
    words = list(words)
    return ", ".join(words[:_SHOWN]) + (" ..." if len(words) > _SHOWN else "")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'es' if number != 1 else ''}"


def _range(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
