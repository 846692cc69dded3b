"""Compare mini in bf16 and fp32 on one processor: seconds, and the difference of the results.

    python experiments/quality/precision.py --root data/mini --output runs/precision

ROOT is the layout that ``experiments/mini/prepare.py`` makes; clips of people kept out of every training are degraded
by Eq. 13 and restored in both types, in turns, so that both meet the same machine. Writes ``table.md``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import degraded, held_out, likeness, shrink
from tqdm import tqdm

from ipfvr.core.config import load_config
from ipfvr.core.devices import multiplies_bf16
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic
from ipfvr.data.layout import CLIPS, list_files
from ipfvr.faces.recognise import load_recogniser
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.reader import read_frames

TYPES = ("fp32", "bf16")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/precision"))
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    parser.add_argument("--clips", type=int, default=6, help="the first so many")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    if not multiplies_bf16(torch.device("cpu")):
        raise UserError("this processor has no bf16 matrices: there is nothing to compare")
    files = list_files(held_out(args.root), "train", CLIPS)[: args.clips]
    if not files:
        raise UserError(f"no clip of a person held out in {args.root}")
    restorers = {name: Restorer(load_config(None, [*args.overrides, f"dtype={name}"])) for name in TYPES}
    config = restorers["fp32"].config
    judge = load_recogniser(config.weights.recogniser)
    conditions = {name: restorer.conditions() for name, restorer in restorers.items()}
    lines = [
        "| clip | fp32, s | bf16, s | fp32 / bf16 | PSNR between, dB | IDS of fp32 | IDS of bf16 |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, file in enumerate(tqdm(files, leave=False)):
        sharp = shrink(read_frames(file, 0, args.frames), config.video.size)
        low = degraded(sharp, config, number)
        seconds: dict[str, list[float]] = {name: [] for name in TYPES}
        frames: dict[str, np.ndarray] = {}
        for turn in range(3 + (number == 0)):  # the first clip's first turn makes what is kept for later ones
            for name, restorer in restorers.items():
                began = time.perf_counter()
                frames[name] = restorer.restore(low, conditions[name])
                if number or turn:
                    seconds[name].append(time.perf_counter() - began)
        ids = likeness(frames, sharp, judge)
        apart = np.square(frames["fp32"].astype(float) - frames["bf16"]).mean()
        whole, half = (median(seconds[name]) for name in TYPES)
        lines.append(
            f"| {file.stem} | {whole:.2f} | {half:.2f} | {whole / half:.2f} | {10 * np.log10(255**2 / apart):.1f} | "
            f"{ids['fp32']:.4f} | {ids['bf16']:.4f} |"
        )
    text = "\n".join([*lines, "", f"{args.frames} frames a clip, {torch.get_num_threads()} threads; {judge.name}.", ""])
    with atomic(args.output / "table.md") as temporary:
        temporary.write_text(text)
    print(text)


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
