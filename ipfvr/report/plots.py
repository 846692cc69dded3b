"""Line plots and heat maps as pictures, drawn with OpenCV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ipfvr.video.strips import FONT

PAPER, INK, RULE = (255, 255, 255), (40, 40, 40), (222, 222, 222)
# These colours remain distinct for colour-blind readers (Okabe and Ito 2008).
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (90, 90, 90))
LOW, HIGH = np.array((247, 251, 255.0)), np.array((8, 81, 156.0))  # the ends of the heat map's colour scale
MARGINS = (88, 24, 44, 56)  # left, right, top, bottom, pixels
ROW = 22  # pixels of a line of text


def line_plot(
    lines: Mapping[str, Sequence[float | None]],
    title: str,
    x_label: str,
    y_label: str,
    marks: Sequence[float] = (),
    size: tuple[int, int] = (1000, 520),
    unit: float = 1,
) -> np.ndarray:
    """Plot lines over their index 0, 1, 2 ...; the name of each line stands beside the plot.

    Args:
        lines: the values of each line by name; a line is broken where a value is None or not finite.
        title, x_label, y_label: ASCII text.
        marks: indices; a dotted vertical line is drawn just before the value at each.
        size: (width, height), pixels.
        unit: what one index counts for on the x axis.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ValueError: there is no finite value.
    """
    values = {name: np.array([np.nan if v is None else v for v in line], float) for name, line in lines.items()}
    finite = np.concatenate([line[np.isfinite(line)] for line in values.values()])
    if not len(finite):
        raise ValueError("nothing to plot: no finite value")
    picture = np.full((size[1], size[0], 3), PAPER, np.uint8)
    names = max(cv2.getTextSize(name, FONT, 0.45, 1)[0][0] for name in values) + 48
    left, right, top, bottom = MARGINS[0], size[0] - MARGINS[1] - names, MARGINS[2], size[1] - MARGINS[3]
    ticks = nice_ticks(float(finite.min()), float(finite.max()))
    last = max(len(line) for line in values.values()) - 1

    def at(x: float, y: float) -> tuple[int, int]:
        across = left + (right - left) * x / max(last, 1)
        up = bottom - (bottom - top) * (y - ticks[0]) / (ticks[-1] - ticks[0])
        return round(across), round(up)

    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    for tick in ticks:
        cv2.line(picture, at(0, tick), at(last, tick), RULE, 1)
        _text(picture, f"{tick:.{digits}f}", (left - 8, at(0, tick)[1] + 5), anchor="right")
    for tick in nice_ticks(0, last * unit):
        if tick <= last * unit and tick == round(tick):
            _text(picture, f"{tick:.0f}", (at(tick / unit, ticks[0])[0], bottom + ROW), anchor="middle")
    for mark in marks:
        x = at(mark - 0.5, ticks[0])[0]
        for y in range(top, bottom, 6):
            cv2.line(picture, (x, y), (x, y + 2), (150, 150, 150), 1)
    for number, (name, line) in enumerate(values.items()):
        # Earlier lines are wider, so that they stay visible below later lines.
        colour, wide = COLOURS[number % len(COLOURS)], len(values) - number + 1
        for index in range(1, len(line)):
            if np.isfinite(line[index - 1 : index + 1]).all():
                ends = at(index - 1, line[index - 1]), at(index, line[index])
                cv2.line(picture, *ends, colour, wide, cv2.LINE_AA)
        y = top + 12 + ROW * number
        cv2.line(picture, (right + 16, y - 4), (right + 36, y - 4), colour, 3, cv2.LINE_AA)
        _text(picture, name, (right + 44, y))
    _text(picture, title, (left, 26), 0.55)
    _text(picture, x_label, ((left + right) // 2, size[1] - 14), anchor="middle")
    # The label is drawn on a band and rotated to lie along its axis.
    band = np.full((ROW, bottom - top, 3), PAPER, np.uint8)
    _text(band, y_label, (band.shape[1] // 2, 16), anchor="middle")
    picture[top:bottom, 2 : 2 + ROW] = cv2.rotate(band, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return picture


def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, labels: tuple[str, str], digits: int
) -> np.ndarray:
    """Draw a table whose cells are coloured by their value, from white (the lowest) to blue.

    Args:
        values: (R, C); a cell with NaN is grey.
        rows, columns: the names of the rows, from top to bottom, and of the columns.
        title: ASCII text.
        labels: the label of the rows and the label of the columns.
        digits: the number of decimals.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ValueError: there is no finite value.
    """
    if not np.isfinite(values).any():
        raise ValueError("nothing to plot: no finite value")
    low, high = np.nanmin(values), np.nanmax(values)
    wide, high_cell, left, top = 104, 64, 112, 92
    shape = (top + high_cell * len(rows) + 20, max(left + wide * len(columns) + 20, 480), 3)
    picture = np.full(shape, PAPER, np.uint8)
    _text(picture, title, (16, 28), 0.55)
    _text(picture, f"{labels[0]} (down), {labels[1]} (across)", (16, 52))
    for c, name in enumerate(columns):
        _text(picture, name, (left + wide * c + wide // 2, top - 10), anchor="middle")
    for r, name in enumerate(rows):
        y = top + high_cell * r
        _text(picture, name, (left - 10, y + high_cell // 2 + 5), anchor="right")
        for c in range(len(columns)):
            x, value = left + wide * c, values[r, c]
            share = (value - low) / (high - low) if high > low else 0.0
            colour = (1 - share) * LOW + share * HIGH if np.isfinite(value) else np.array(RULE)
            picture[y : y + high_cell - 2, x : x + wide - 2] = colour.round().astype(np.uint8)
            ink = PAPER if np.isfinite(value) and share > 0.4 else INK
            written = f"{value:.{digits}f}" if np.isfinite(value) else "n/a"
            _text(picture, written, (x + wide // 2, y + high_cell // 2 + 5), 0.5, "middle", ink)
    return picture


def nice_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return at least two round numbers around ``low`` to ``high``, with a step of 1, 2 or 5 times a power of ten."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= about)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * n for n in range(first, max(last, first + 1) + 1)]


def _text(
    picture: np.ndarray,
    text: str,
    at: tuple[int, int],
    scale: float = 0.45,
    anchor: str = "left",
    ink: tuple[int, int, int] = INK,
) -> None:
    """Write ``text`` with its baseline at ``at``, which is the left end, middle or right end of the text."""
    width = cv2.getTextSize(text, FONT, scale, 1)[0][0]
    x = at[0] - {"left": 0, "middle": width // 2, "right": width}[anchor]
    cv2.putText(picture, text, (x, at[1]), FONT, scale, ink, 1, cv2.LINE_AA)
