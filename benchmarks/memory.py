"""Memory does not grow with the length of a video.

    python benchmarks/memory.py crops         # 4,800 aligned crops against 480, with exponential blending
    python benchmarks/memory.py faceless      # a film of 15,000 frames without a face against one of 600
    python benchmarks/memory.py crops --frames 2400 --output runs/memory preset=mini sampler.steps=2

``crops`` are made on the fly and restored as a stream. The memory of the clips is saved after each clip, as a job that
can be resumed does. The default is the tiny preset with clips of 24 that share 8, three clips blended: whatever grows
with the length would show first beside its small memory. ``<frames>.csv`` in the output folder has the resident memory
after each clip of the longer video, ``memory.png`` shows it.

``faceless`` is a small film of drifting clouds with cuts. The time for a frame is printed beside the peak memory.

Each length is a process of its own. Exit status 1 where the longer one's peak is more than 10 % above the other's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

GROWTH = 1.1
LONGEST, TIMES = {"crops": 4800, "faceless": 15_000}, {"crops": 10, "faceless": 25}
WIDTH, HEIGHT, SHOT = 320, 180, 250  # of the film without a face: pixels; frames
DEFAULT = ["preset=tiny", "video.clip_frames=24", "video.overlap=8", "sampler.steps=3"]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=LONGEST)
    parser.add_argument("--frames", type=int, default=0, help="of the longer video; default: see above")
    parser.add_argument("--output", type=Path, default=Path("runs/memory"), help="folder of what is made")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # restore one length, write this CSV
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    frames = args.frames or LONGEST[args.kind]
    if args.one:
        restore_stream(frames, [*DEFAULT, *args.overrides], args.one)
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    measure = crops if args.kind == "crops" else faceless
    short, long = (measure(count, args.output, args.overrides) for count in (frames // TIMES[args.kind], frames))
    if args.kind == "crops":
        plot(args.output / f"{frames}.csv", args.output / "memory.png")
    print(f"peak of {frames} frames / of {frames // TIMES[args.kind]}: {long / short:.3f} (limit {GROWTH})")
    return int(long > GROWTH * short)


def crops(frames: int, output: Path, overrides: list[str]) -> float:
    """Restore so many crops in a process of its own; its peak memory in MB."""
    csv = output / f"{frames}.csv"
    command = [sys.executable, __file__, "crops", "--frames", str(frames), "--one", str(csv), *overrides]
    subprocess.run(command, check=True)
    rows = np.loadtxt(csv, delimiter=",", skiprows=1, ndmin=2)
    print(f"{frames} frames: resident {rows[0, 1]:.0f} to {rows[-1, 1]:.0f} MB, peak {rows[-1, 2]:.0f} MB", flush=True)
    return rows[-1, 2]


def faceless(frames: int, output: Path, overrides: list[str]) -> float:
    """Restore a film without a face in a process of its own; its peak memory in MB."""
    film, restored = make_film(output / f"{frames}.mp4", frames), output / f"{frames}.restored.mp4"
    command = [sys.executable, "-m", "ipfvr.restore", str(film), "--output", str(restored), "--no-page", *overrides]
    subprocess.run(command, check=True, capture_output=True)
    report = json.loads(restored.with_suffix(".json").read_text())
    print(
        f"{frames} frames of {WIDTH} x {HEIGHT}, {report['restored']} with a face: {report['seconds']:.1f} s, "
        f"{report['seconds'] / frames * 1e3:.1f} ms a frame, peak memory {report['peak_memory_mb']} MB",
        flush=True,
    )
    return report["peak_memory_mb"]


def make_film(path: Path, count: int) -> Path:
    """Clouds that drift, other ones after each cut."""
    import cv2

    from ipfvr.video.writer import VideoWriter

    with VideoWriter(path, WIDTH, HEIGHT, 25, crf=20, preset="ultrafast") as writer:
        for index in range(count):
            if index % SHOT == 0:
                coarse = np.random.default_rng(index).integers(40, 220, (8, 24, 3), dtype=np.uint8)
                clouds = cv2.resize(coarse, (WIDTH + SHOT, HEIGHT), interpolation=cv2.INTER_CUBIC)
            at = index % SHOT
            writer.write(np.ascontiguousarray(clouds[:, at : at + WIDTH]))
    return path


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
