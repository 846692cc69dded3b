"""Formatting of numbers with the decimals of their metric."""

from __future__ import annotations

from ipfvr.metrics.info import MetricInfo
from ipfvr.metrics.intervals import Summary


def number(value: float | None, info: MetricInfo, sign: str = "") -> str:
    """Format a number with the metric's decimals; with ``sign="+"`` a positive number has a sign too."""
    return "n/a" if value is None else f"{value:{sign}.{info.digits}f}"


def interval(summary: Summary | None, info: MetricInfo, sign: str = "") -> str:
    """Format a summary as ``mean [low, high]``."""
    if summary is None:
        return "n/a"
    return " ".join([number(summary.mean, info, sign), *ends(summary, info, sign)])


def ends(summary: Summary, info: MetricInfo, sign: str = "") -> list[str]:
    """Format the interval as ``[low, high]``; an empty list if there is none."""
    if summary.low is None:
        return []
    return [f"[{number(summary.low, info, sign)}, {number(summary.high, info, sign)}]"]
