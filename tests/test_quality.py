"""The tables of ``experiments/quality``: means over people, and differences of versions of the same clips."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("common", Path(__file__).parents[1] / "experiments/quality/common.py")
common = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(common)


def test_a_table_weighs_people_alike_and_subtracts_clip_by_clip() -> None:
    def clip(plain: float, restored: float) -> dict[str, dict[str, float | None]]:
        return {"plain": {"psnr": plain, "niqe": None}, "restored": {"psnr": restored, "niqe": 7.0}}

    # anna's three clips count as much as ben's one.
    found = {"anna": [clip(20.0, 21.0)] * 3, "ben": [clip(30.0, 34.0)]}
    text = common.scores_table(found, ("plain", "restored"), [("restored", "plain")], ("psnr", "niqe"))
    head, _, *lines = text.splitlines()
    assert head.startswith("| 2 people, 4 clips | PSNR (dB)")
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in lines}
    assert cells["plain"][0] == "25.00"
    assert cells["restored"][0] == "27.50"
    assert cells["restored - plain"][:2] == ["2.50", "1.00 to 4.00"]
    assert cells["plain"][2] == cells["restored - plain"][2] == "not measured"
    assert cells["restored"][2] == "7.000"
