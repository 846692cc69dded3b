"""Memory of a long video: 4,800 frames against 480, with exponential blending.

    python benchmarks/long_memory.py
    python benchmarks/long_memory.py --frames 2400 --output runs/memory preset=mini sampler.steps=2

Aligned crops are made on the fly and restored as a stream, and the memory of the clips is saved after each, as a job
that can be resumed does. Each length is a process of its own. The default is the tiny preset with clips of 24 that
share 8, three clips blended: what grows with the length would show against its small memory first. ``memory.csv`` in
the output folder has the resident memory after each clip of the longer one, ``memory.png`` shows it. Exit status 1
where the longer one's peak is more than 10 % above the shorter one's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

GROWTH, TIMES = 1.1, 10
DEFAULT = ["preset=tiny", "video.clip_frames=24", "video.overlap=8", "sampler.steps=3"]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=4800, help="of the longer video; the shorter has a tenth")
    parser.add_argument("--output", type=Path, default=Path("runs/long_memory"), help="folder of the CSV and the plot")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # restore one length, write this CSV
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    if args.one:
        restore_stream(args.frames, [*DEFAULT, *args.overrides], args.one)
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    peaks = {}
    for frames in (args.frames // TIMES, args.frames):
        csv = args.output / ("memory.csv" if frames == args.frames else "short.csv")
        command = [sys.executable, __file__, "--frames", str(frames), "--one", str(csv), *args.overrides]
        subprocess.run(command, check=True)
        rows = np.loadtxt(csv, delimiter=",", skiprows=1, ndmin=2)
        peaks[frames] = rows[-1, 2]
        print(
            f"{frames} frames: resident {rows[0, 1]:.0f} to {rows[-1, 1]:.0f} MB, peak {rows[-1, 2]:.0f} MB", flush=True
        )
    plot(args.output / "memory.csv", args.output / "memory.png")
    growth = peaks[args.frames] / peaks[args.frames // TIMES]
    print(f"peak of {args.frames} frames / of {args.frames // TIMES}: {growth:.3f} (limit {GROWTH}); {args.output}")
    return int(growth > GROWTH)


def restore_stream(frames: int, overrides: list[str], csv: Path) -> None:
    """Restore ``frames`` made-up crops; write resident and peak memory after each clip, in MB."""
    from ipfvr.core.config import load_config
    from ipfvr.diffusion.long_video import ClipMemory, plan_windows
    from ipfvr.film.run import peak_memory_mb
    from ipfvr.restoration.restorer import Restorer

    config = load_config(None, overrides)
    restorer, memory = Restorer(config), ClipMemory()
    side = config.video.size // config.video.scale
    crops = ((i, np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)) for i in range(frames))
    windows, out = plan_windows([(0, frames)], config), 0
    with tempfile.TemporaryDirectory() as folder, csv.open("w", buffering=1) as rows:
        rows.write("frame,resident_mb,peak_mb\n")
        for index, _ in restorer.restore_stream(crops, windows, restorer.conditions(), memory=memory):
            out += 1
            if index + 1 == memory.next_frame:
                memory.save(Path(folder) / "memory.safetensors")
                rows.write(f"{index + 1},{resident_mb():.1f},{peak_memory_mb()}\n")
    if out != frames:
        raise SystemExit(f"{out} frames came out of {frames}")


def resident_mb() -> float:
    """Memory of this process now (Linux)."""
    import os

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def plot(csv: Path, png: Path) -> None:
    """The CSV as a picture."""
    from ipfvr.report.plots import line_plot
    from ipfvr.video.writer import write_picture

    frame, resident, peak = np.loadtxt(csv, delimiter=",", skiprows=1, ndmin=2).T
    lines = {"now": resident.tolist(), "peak so far": peak.tolist(), "nothing": [0.0] * len(frame)}
    title = f"memory after each clip, {frame[-1]:.0f} frames in all"
    write_picture(png, line_plot(lines, title, "clip", "resident memory, MB"), 9)


if __name__ == "__main__":
    raise SystemExit(main())
