"""Results of an experiment that nobody has run."""

from __future__ import annotations

from ipfvr.metrics.intervals import Summary
from ipfvr.study.results import Difference, Line, Results


def example() -> Results:
    """Two rows with numbers, one without."""
    ours = {"psnr": Summary(28.123456, 27.0, 29.5, 3, 3), "ids_gt": Summary(0.61, 0.5, 0.7, 3, 3), "lpips": None}
    base = {"psnr": Summary(27.5, None, None, 1, 1), "ids_gt": Summary(0.58, 0.5, 0.66, 3, 3), "lpips": None}
    none = dict.fromkeys(ours)
    paper = {"psnr": 29.51, "ids_gt": 0.582, "lpips": 0.216}
    missing = {"lpips": "no weights <here>"}
    lines = [
        Line("Ours & co_1", "Ours", "heavy", "ipfvr", "done", [], ours, missing, paper),
        Line("Base 100%", "Base", "heavy", "venhancer", "done", [], base, missing),
        Line("Keep | it", "Keep", "heavy", "keep", "not run", ["KEEP is not installed: git clone <x>"], none),
    ]
    cells = [
        {"row": "Ours", "level": "heavy", "clip": clip, "person": "a", "seed": 0, "cell": clip, "scores": {"psnr": 1.0}}
        | {"per_frame": {"ids_gt": [0.5, None, share], "psnr": [1.0]}}
        for clip, share in (("a_0", 0.4), ("a_1", 0.6))
    ]
    claims = [("ours is better.", [Difference("psnr", "Ours", "Base", Summary(0.5, 0.1, 0.9, 4, 8), -1.0, "holds")])]
    return Results("t", "Title <b>", "mini", ["psnr", "ids_gt", "lpips"], lines, cells, claims, ["a footnote"])
