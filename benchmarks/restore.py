"""Seconds and memory of a restoration with mini: 48 frames, then ten times as many.

    python benchmarks/restore.py

Each restoration is a process of its own, start-up included. Exit status 1 above 60 s or 3 GB for 48 frames, or when
480 frames need more than 10 % more memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ipfvr.data.sample import sample_clip
from ipfvr.degradation.pipeline import degrade, sample_parameters
from ipfvr.video.writer import write_video

SECONDS, MEGABYTES, GROWTH = 60.0, 3 * 1024, 1.1


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        low = degrade(sample_clip(48, 128), sample_parameters("heavy", 2, 128, 0))
        for times in (1, 10):
            source, output = Path(folder) / f"low{times}.mp4", Path(folder) / f"out{times}.mp4"
            write_video(source, low.repeat(times, axis=0), 24, 10)
            command = [sys.executable, "-m", "ipfvr.restore", str(source), "--aligned", "--output", str(output)]
            began = time.monotonic()
            subprocess.run([*command, *args.overrides], check=True, capture_output=True)
            seconds = time.monotonic() - began
            report = json.loads(output.with_suffix(".json").read_text())
            found[times] = (seconds, report["peak_memory_mb"])
            print(f"{report['frames']} frames: {seconds:.1f} s, peak {report['peak_memory_mb']} MB", flush=True)
    growth = found[10][1] / found[1][1]
    print(f"memory of 480 frames / of 48: {growth:.3f} (limit {GROWTH}); 48 frames: limits {SECONDS} s, {MEGABYTES} MB")
    return int(found[1][0] > SECONDS or found[1][1] > MEGABYTES or growth > GROWTH)


if __name__ == "__main__":
    raise SystemExit(main())
