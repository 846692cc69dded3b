"""Plots: what is drawn lies where its numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from ipfvr.report.plots import COLOURS, HIGH, LOW, heat_map, line_plot, nice_ticks


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.613, 0.702), (-3.2, 18.0), (5.0, 5.0), (0.0, 0.0), (0, 95)])
def test_ticks_enclose_their_range_in_equal_round_steps(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 9
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
    assert f"{steps[0]:e}"[0] in "125"


def rows_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows of the plot's inside, left of the names, that hold a colour."""
    return np.flatnonzero((picture[:, :700] == colour).all(2).any(1))


def test_a_higher_line_is_drawn_higher_and_a_gap_is_left_open() -> None:
    high, low = [0.9] * 10, [0.2, 0.2, 0.2, 0.2, None, None, 0.2, 0.2, 0.2, 0.2]
    picture = line_plot({"high": high, "low": low}, "title", "frame", "IDS", marks=[5])
    assert picture.shape == (520, 1000, 3)
    assert rows_of(picture, COLOURS[0]).max() < rows_of(picture, COLOURS[1]).min()
    columns = np.flatnonzero((picture[:, :700] == COLOURS[1]).all(2).any(0))
    assert np.diff(columns).max() > 100  # three of nine intervals are not drawn
    with pytest.raises(ValueError, match="nothing to plot"):
        line_plot({"none": [None, float("nan")]}, "", "", "")


def test_the_unit_changes_the_numbers_below_a_plot_and_nothing_else() -> None:
    one, hundred = (line_plot({"a": [0.1, 0.3, 0.2]}, "title", "x", "y", unit=unit) for unit in (1, 100))
    different = np.flatnonzero((one != hundred).any((1, 2)))
    assert len(different)
    assert different.min() >= 520 - 56  # the bottom margin


def test_the_lowest_cell_is_white_and_the_highest_blue() -> None:
    values = np.array([[0.1, 0.2], [np.nan, 0.4]])
    picture = heat_map(values, ["a", "b"], ["c", "d"], "title", ("rows", "columns"), 2)
    colours = [tuple(picture[y, x]) for y in (98, 162) for x in (118, 222)]
    assert colours[0] == tuple(LOW.astype(int))
    assert colours[3] == tuple(HIGH.astype(int))
    assert len(set(colours)) == 4
    # Numbers are written dark on white and white on blue.
    assert picture[92:154, 112:214].max(2).min() < 120
    assert picture[156:218, 216:318].min(2).max() > 200
    with pytest.raises(ValueError, match="nothing to plot"):
        heat_map(values * np.nan, ["a", "b"], ["c", "d"], "", ("", ""), 2)
