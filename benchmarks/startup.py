"""Seconds before there is something to see: each verb's help, a dry run, the first clip restored.

    python benchmarks/startup.py
    python benchmarks/startup.py --wrong somebody_else.jpg      # and how soon a wrong reference is refused

Each is a process of its own on a warm disk, the median of three. The first clip has 24 frames of 128 pixels, whose
faces are found first; the process ends when it is restored. Exit status 1 above 0.7 s for a help, 8 s for the dry run,
6 s for the clip or 10 s for the refusal. Another busy process makes two threads many times slower: stop it first.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ipfvr.__main__ import verbs
from ipfvr.data.sample import portrait, sample_clip
from ipfvr.video.writer import write_picture, write_video

HELP, DRY_RUN, CLIP, REFUSAL = 0.7, 8.0, 6.0, 10.0
REPEATS = 3
# Runs restore, and ends where the first clip is restored.
UNTIL_THE_FIRST = """
import os
from ipfvr import restore
from ipfvr.core.startup import importing
with importing():  # as restore does
    from ipfvr.restoration.restorer import Restorer
whole = Restorer.restore
def first(*inputs, **options):
    whole(*inputs, **options)
    os._exit(0)
Restorer.restore = first
restore.main({arguments!r})
"""


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wrong", type=Path, help="a picture of anybody but the sample's woman")
    args = parser.parse_args(argv)
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        clip, picture = Path(folder) / "clip.mp4", Path(folder) / "reference.png"
        write_video(clip, sample_clip(24, 128), 24, 10)
        write_picture(picture, portrait())

        def job(reference: Path, *options: str) -> list[str]:
            output = Path(folder) / f"{time.monotonic_ns()}.mp4"
            return [str(clip), "--reference", str(reference), "--output", str(output), *options]

        def verb(name: str, *arguments: str) -> list[str]:
            return ["-m", f"ipfvr.{name}", *arguments]

        rows: list[tuple[str, float, int, Callable[[], Sequence[str]]]] = [
            (f"{name} --help", HELP, 0, lambda name=name: verb(name, "--help")) for name in verbs()
        ]
        rows.append(("restore --dry-run", DRY_RUN, 0, lambda: verb("restore", *job(picture, "--dry-run"))))
        rows.append(("restore, first clip", CLIP, 0, lambda: ["-c", UNTIL_THE_FIRST.format(arguments=job(picture))]))
        if args.wrong is not None:
            rows.append(("restore, wrong reference", REFUSAL, 2, lambda: verb("restore", *job(args.wrong))))
        for name, limit, status, command in rows:
            seconds = statistics.median(_seconds(command(), status) for _ in range(REPEATS))
            missed += seconds > limit
            print(f"{name}: {seconds:.2f} s (limit {limit})", flush=True)
    return int(missed > 0)


def _seconds(command: Sequence[str], status: int) -> float:
    began = time.monotonic()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode != status:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return time.monotonic() - began


if __name__ == "__main__":
    raise SystemExit(main())
