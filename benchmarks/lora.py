"""Seconds of a LoRA with the reward: mini, 24-frame clips, 100 steps.

    python benchmarks/lora.py
    python benchmarks/lora.py --steps 10 reward.chunk=4          # ten steps, reckoned up to a hundred

Trains ``experiments/lora.yaml`` on scenes made of the sample portrait, start-up and report included. Prints the wall
clock's seconds and the processor's. Exit status 1 above 10 minutes a hundred steps; ``--processor`` judges by the
processor's seconds of all threads divided by two cores, where other programs use the machine too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from PIL import Image

from ipfvr.data.sample import sample_clip
from ipfvr.video.writer import write_video

LIMIT, STEPS = 600.0, 100
EXPERIMENT = Path(__file__).parents[1] / "experiments" / "lora.yaml"


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--processor", action="store_true", help="judge the processor's seconds, see above")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        person = Path(folder) / "sample"
        frames = sample_clip(160, 160)
        (person / "reference").mkdir(parents=True)
        Image.fromarray(frames[0]).resize((320, 320)).save(person / "reference" / "a.png")
        for number in range(4):
            write_video(person / "train" / f"{number}.mp4", frames[40 * number : 40 * (number + 1)], 24, 10)
        began, processor = time.monotonic(), seconds()
        from ipfvr.core.config import load_config
        from ipfvr.training.run import fit

        pairs = [f"data.root={folder}", "data.identity=sample", f"train.output={folder}/out", "train.wandb=disabled"]
        config = load_config(EXPERIMENT, [*pairs, f"optimizer.steps={args.steps}", *args.overrides])
        fit(config)
        wall, processor = time.monotonic() - began, seconds() - processor
    factor = STEPS / args.steps
    print(f"{args.steps} steps: {wall:.0f} s on the clock, {processor:.0f} s of the processor")
    judged = (processor / 2 if args.processor else wall) * factor
    print(f"{STEPS} steps: {judged:.0f} s (limit {LIMIT:.0f} s)")
    return int(judged > LIMIT)


def seconds() -> float:
    """Of the processor, this process and those it waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    raise SystemExit(main())
