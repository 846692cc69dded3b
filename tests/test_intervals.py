"""Intervals over people: what the two levels must agree with, their limits, and how often they hold the truth."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from ipfvr.metrics.intervals import RESAMPLES, bootstrap_interval, summary_of

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from coverage_of_intervals import coverage


def width(people: list[list[float]]) -> float:
    """Of the interval."""
    low, high = bootstrap_interval(people)
    return high - low


def test_with_one_clip_a_person_it_is_the_bootstrap_over_people() -> None:
    values = np.random.default_rng(3).normal(size=12)
    drawn = np.random.default_rng(0).integers(0, 12, size=(RESAMPLES, 12))
    tail = NormalDist().cdf(-math.sqrt(12 / 11) * float(stats.t(11).ppf(0.975)))
    low, high = np.quantile(values[drawn].mean(1), [tail, 1 - tail])
    assert bootstrap_interval([[v] for v in values]) == pytest.approx((low, high), rel=1e-12)


def test_of_many_people_it_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=400)
    half = 1.96 * values.std() / math.sqrt(400)
    expected = (values.mean() - half, values.mean() + half)
    assert bootstrap_interval([[v] for v in values]) == pytest.approx(expected, abs=0.03)


def test_eight_clips_of_two_people_say_less_than_eight_of_eight() -> None:
    rng = np.random.default_rng(1)
    two, eight = [], []
    for _ in range(20):
        clips = rng.normal(size=8)
        two.append(width([list(clips[:4]), list(clips[4:])]))
        eight.append(width([[c] for c in clips]))
        assert two[-1] > eight[-1]
    assert np.mean(two) > 1.3 * np.mean(eight)
    # Copies of a clip are no further people, nor do they tell more of their own person.
    assert bootstrap_interval([[c] * 5 for c in clips]) == pytest.approx(bootstrap_interval([[c] for c in clips]))


def test_what_does_not_vary_has_no_width_and_what_is_moved_moves() -> None:
    assert bootstrap_interval([[3.0], [3.0, 3.0]]) == (3.0, 3.0)
    people = [[1.0, 2.0], [4.0], [2.0, 3.0, 7.0]]
    low, high = bootstrap_interval(people)
    moved = bootstrap_interval([[10 - 2 * v for v in clips] for clips in people])
    assert moved == pytest.approx((10 - 2 * high, 10 - 2 * low), abs=0.05)


def test_the_seed_makes_it_repeat() -> None:
    people = [[1.0, 2.0], [4.0], [2.0, 3.0, 7.0], [0.5]]
    assert bootstrap_interval(people, seed=1) == bootstrap_interval(people, seed=1)
    assert bootstrap_interval(people, seed=1) != bootstrap_interval(people, seed=2)


def test_everybody_counts_the_same_and_one_person_has_no_interval() -> None:
    found = summary_of([("a", 1.0), ("a", 3.0), ("b", 6.0), ("b", None), ("c", None)])
    assert (found.mean, found.people, found.clips) == (4.0, 2, 3)
    alone = summary_of([("a", 1.0), ("a", 3.0)])
    assert (alone.mean, alone.low, alone.high, alone.people, alone.clips) == (2.0, None, None, 1, 2)
    assert summary_of([("a", None)]) is None
    with pytest.raises(ValueError, match="two or more"):
        bootstrap_interval([[1.0, 2.0]])
    with pytest.raises(ValueError, match="each with a number"):
        bootstrap_interval([[1.0], []])


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    """95 % within what 1,000 simulations tell: seven people of two clips, who differ as much as their clips do."""
    assert 0.93 <= coverage(7, 2, 1.0, 1.0, 1000) <= 0.97
