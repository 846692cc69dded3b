"""The label of a number: title, unit, direction, source. Imports nothing heavy, for reports of finished numbers."""

from __future__ import annotations

from dataclasses import dataclass

# Names in the weights registry that scoring reads where they are there, beside ``weights.recogniser``.
WEIGHTS = ("yunet", "niqe", "raft-large", "raft-small", "lpips", "clip-iqa", "musiq", "liqe")


@dataclass(frozen=True)
class MetricInfo:
    """The label of a number; nothing is printed without it.

    Attributes:
        key: the name in JSON files, such as ``ids_gt``.
        title: the name in tables.
        higher_is_better: the direction.
        low, high: the range of possible values; None where there is no bound.
        unit: what one means: ``dB``, ``x 1e-2``; empty for a pure number.
        digits: decimals in tables.
        source: the paper that defines it.
        network: the network behind the number with the sha256 of its file; empty where there is none.
        licence: licence of the network or of the fitted parameters; empty where there are none.
    """

    key: str
    title: str
    higher_is_better: bool
    low: float | None
    high: float | None
    unit: str
    digits: int
    source: str
    network: str = ""
    licence: str = ""

    @property
    def heading(self) -> str:
        """Title, unit and direction, as a table's heading has them."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.title}{unit} {'↑' if self.higher_is_better else '↓'}"
