"""Helpers of the measurements in this folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from ipfvr.core.options import Config
from ipfvr.data.layout import list_identities, read_identities
from ipfvr.degradation.pipeline import degrade, sample_parameters
from ipfvr.faces.align import face_template
from ipfvr.faces.recognise import Recogniser, embed_faces
from ipfvr.metrics.identity import identity_similarity
from ipfvr.metrics.intervals import summary_of

HELDOUT = Path(__file__).parents[1] / "mini/heldout.yaml"
VALIDATION = HELDOUT.parent / "validation.yaml"


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


def degraded(sharp: np.ndarray, config: Config, seed: int) -> np.ndarray:
    """A clip's low-quality twin by Eq. 13, at ``degradation.level``: (F, size / r, size / r, 3) uint8."""
    video, settings = config.video, config.degradation
    return degrade(sharp, sample_parameters(settings.level, video.scale, video.size, seed, settings.scale_sigma))
