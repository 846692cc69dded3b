"""Seconds of Eq. 13: ``python benchmarks/degradation.py`` (exit status 1 above the limit).

24 frames of 720 x 720, heavy with both rounds, must take at most 4 s on two cores; single pictures of 128 x 128, as a
training draws them, are timed beside it.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import cv2
import numpy as np

from ipfvr.degradation.pipeline import RESIZES, Parameters, Round, degrade, sample_parameters


def smooth_clip(frames: int, size: int, seed: int) -> np.ndarray:
    """A moving coloured pattern: (F, size, size, 3) uint8, with motion and detail for the encoder to work on."""
    rng = np.random.default_rng(seed)
    canvas = cv2.resize(rng.integers(0, 256, (90, 90, 3), dtype=np.uint8), (size + frames, size + frames))
    return np.stack([canvas[i : i + size, i : i + size] for i in range(frames)])


def main() -> int:
    """Print the table; 0 if the clip's time is within the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=4.0, help="seconds for 24 frames of 720 x 720")
    limit = parser.parse_args().limit
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    clip = smooth_clip(24, 720, 0)
    slowest = 0.0
    for resize in RESIZES:
        # The strongest parameters of the level: the widest kernel and the most bits.
        worst = Parameters("heavy", 0, 720, (Round(5.0, 10.0, 18, 4, resize), Round(5.0, 10.0, 18, 1, resize)))
        begin = time.perf_counter()
        degrade(clip, worst)
        seconds = time.perf_counter() - begin
        slowest = max(slowest, seconds)
        print(f"24 frames of 720 x 720, heavy, two rounds, {resize:7}: {seconds:6.2f} s (limit {limit:g} s)")
    picture = smooth_clip(1, 128, 0)
    for level, scale in (("light", 2), ("heavy", 2), ("severe", 2)):
        begin = time.perf_counter()
        for seed in range(100):
            degrade(picture, sample_parameters(level, scale, 128, seed))
        print(f"a picture of 128 x 128, {level:6}: {(time.perf_counter() - begin) * 10:6.2f} ms")
    if slowest > limit:
        print(f"too slow: {slowest:.2f} s")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
