"""Ten minutes without a face pass quickly and at constant memory.

    python benchmarks/faceless.py
    python benchmarks/faceless.py --frames 3000 --output runs/faceless

A small film of drifting clouds, with cuts, and one of a 25th of its length, each restored in a process of its own. The
time a frame and the peak memory are printed; exit status 1 where the longer one's is more than 10 % above the other's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from kills import run

from ipfvr.core.config import load_config
from ipfvr.film.job import Job
from ipfvr.video.writer import VideoWriter

GROWTH, TIMES = 1.1, 25
WIDTH, HEIGHT, SHOT = 320, 180, 250  # pixels; frames


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=15_000, help="of the longer film")
    parser.add_argument("--output", type=Path, default=Path("runs/faceless"), help="folder of the films")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    config, peaks = load_config(None, args.overrides), []
    for frames in (args.frames // TIMES, args.frames):
        job = Job(make_film(args.output / f"{frames}.mp4", frames), args.output / f"{frames}.restored.mp4")
        run(job, config)
        report = json.loads(job.output.with_suffix(".json").read_text())
        peaks.append(report["peak_memory_mb"])
        print(
            f"{frames} frames of {WIDTH} x {HEIGHT}, {report['restored']} with a face: {report['seconds']:.1f} s, "
            f"{report['seconds'] / frames * 1e3:.1f} ms a frame, peak memory {peaks[-1]} MB",
            flush=True,
        )
    print(f"peak of the longer / of the shorter: {peaks[1] / peaks[0]:.3f} (limit {GROWTH})")
    return int(peaks[1] > GROWTH * peaks[0])


def make_film(path: Path, count: int) -> Path:
    """Clouds that drift, other ones after each cut."""
    with VideoWriter(path, WIDTH, HEIGHT, 25, crf=20, preset="ultrafast") as writer:
        for index in range(count):
            if index % SHOT == 0:
                coarse = np.random.default_rng(index).integers(40, 220, (8, 24, 3), dtype=np.uint8)
                clouds = cv2.resize(coarse, (WIDTH + SHOT, HEIGHT), interpolation=cv2.INTER_CUBIC)
            at = index % SHOT
            writer.write(np.ascontiguousarray(clouds[:, at : at + WIDTH]))
    return path


if __name__ == "__main__":
    raise SystemExit(main())
