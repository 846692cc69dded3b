"""Means over clips and how sure they are. Imports nothing heavy, for reports of finished numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A metric over clips: the mean, its bootstrap interval (None with one clip), and how many clips have a number."""

    mean: float
    low: float | None
    high: float | None
    clips: int


def bootstrap_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over clips (Efron 1979): clips are drawn with replacement.

    Args:
        values: one a clip, at least two.
        confidence: the interval's probability.
        resamples: how many means are drawn.
        seed: makes the interval repeat.

    Returns:
        Lower and upper end.
    """
    values = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), size=(resamples, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def summary_of(values: Sequence[float | None]) -> Summary | None:
    """Mean and bootstrap interval of the numbers that are there, one a clip; None where there is none."""
    there = [v for v in values if v is not None]
    if not there:
        return None
    low, high = bootstrap_interval(there) if len(there) > 1 else (None, None)
    return Summary(float(np.mean(there)), low, high, len(there))
