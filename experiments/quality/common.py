"""Helpers of the measurements in this folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ipfvr.core.options import Config
from ipfvr.data.layout import list_identities, read_identities
from ipfvr.degradation.pipeline import degrade, sample_parameters
from ipfvr.faces.align import face_template
from ipfvr.faces.recognise import Recogniser, embed_faces
from ipfvr.metrics.columns import COLUMNS
from ipfvr.metrics.identity import identity_similarity
from ipfvr.metrics.intervals import summary_of

HELDOUT = Path(__file__).parents[1] / "mini/heldout.yaml"
VALIDATION = HELDOUT.parent / "validation.yaml"
Scores = dict[str, dict[str, float | None]]  # of a clip: by the version, by the metric


def held_out(root: Path) -> list[Path]:
    """The people of a data root that no training of mini has seen."""
    return list_identities(root, HELDOUT, held=True)


def test_people(root: Path) -> list[Path]:
    """Those of :func:`held_out` on whom no setting is chosen."""
    validating = read_identities(VALIDATION, "the validation people")
    return [person for person in held_out(root) if person.name not in validating]


def chosen_people(root: Path, file: Path | None) -> list[Path]:
    """The people of a data root that a YAML file lists; without one :func:`test_people`."""
    if file is None:
        return test_people(root)
    names = read_identities(file, "--people")
    return [person for person in list_identities(root) if person.name in names]


def shrink(frames: np.ndarray, size: int) -> np.ndarray:
    """(F, H, W, 3) uint8 crops, area-averaged to (F, size, size, 3)."""
    return np.stack([cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in frames])


def likeness(frames: Mapping[str, np.ndarray], sharp: np.ndarray, judge: Recogniser) -> dict[str, float]:
    """Mean IDS of each of several versions of a clip to the sharp one, by name; all aligned, (F, S, S, 3) uint8."""
    landmarks = face_template(sharp.shape[1])[None].repeat(len(sharp), 0)
    truth = embed_faces(sharp, landmarks, judge)
    return {n: float(identity_similarity(embed_faces(f, landmarks, judge), truth).mean()) for n, f in frames.items()}


def mean_and_interval(numbers: Iterable[tuple[str, float | None]], digits: int) -> str:
    """Two cells of a Markdown table: the mean over people and its 95 % interval; ``numbers`` are (person, number)."""
    found = summary_of(numbers)
    if found is None:
        return "not measured | "
    ends = "one person" if found.low is None else f"{found.low:.{digits}f} to {found.high:.{digits}f}"
    return f"{found.mean:.{digits}f} | {ends}"


def scores_table(
    found: Mapping[str, Sequence[Scores]],
    rows: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str],
) -> str:
    """A Markdown table of what people's clips scored.

    Args:
        found: a person's name to the scores of each of their clips.
        rows: the versions of a clip to list.
        pairs: versions of which the difference is listed, the first minus the second.
        metrics: keys of :data:`ipfvr.metrics.columns.COLUMNS`, two columns each: the mean and its 95 % interval over
            people.
    """
    headings = " | ".join(f"{COLUMNS[key].heading} | 95 %" for key in metrics)
    lines = [
        f"| {len(found)} people, {sum(map(len, found.values()))} clips | {headings} |",
        "|---" * (1 + 2 * len(metrics)) + "|",
    ]
    for a, b in [*((row, "") for row in rows), *pairs]:
        cells = []
        for key in metrics:
            numbers = [(name, difference(s[a][key], s[b][key] if b else 0)) for name, of in found.items() for s in of]
            cells.append(mean_and_interval(numbers, COLUMNS[key].digits))
        lines.append(f"| {a}{' - ' * bool(b)}{b} | {' | '.join(cells)} |")
    return "\n".join(lines)


def difference(first: float | None, second: float | None) -> float | None:
    """The first number less the second, where both were measured."""
    return None if first is None or second is None else first - second


def degraded(sharp: np.ndarray, config: Config, seed: int) -> np.ndarray:
    """A clip's low-quality twin by Eq. 13, at ``degradation.level``: (F, size / r, size / r, 3) uint8."""
    video, settings = config.video, config.degradation
    return degrade(sharp, sample_parameters(settings.level, video.scale, video.size, seed, settings.scale_sigma))
