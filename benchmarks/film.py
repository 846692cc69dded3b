"""What stands around the restoration of a film costs little: detection, tracking, pasting and encoding.

    python benchmarks/film.py

A 720p film with one face, mini. Seconds are the processor's, so that other work on the machine does not count. Exit
status 1 when all of it together takes more than 15 % of the time of restoring. Reading is printed and not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from ipfvr.config import load_config
from ipfvr.data.sample import sample_clip
from ipfvr.faces.detect import make_detector
from ipfvr.faces.track import scan_video
from ipfvr.film.job import Job
from ipfvr.film.plan import make_plan
from ipfvr.film.stream import FilmStream, Frames
from ipfvr.restoration import Restorer
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter

SHARE = 0.15
WIDTH, HEIGHT, FACE = 1280, 720, 360  # the sample's square in the frame, pixels


class Untouched:
    """Stands where a restorer does, and costs nothing."""

    def restore_stream(self, crops: Iterable, windows: object, progress: object) -> Iterator:
        """Every square as it is."""
        return iter(crops)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=56, help="of the film")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    config = load_config(None, args.overrides)
    with tempfile.TemporaryDirectory() as folder:
        path = make_film(Path(folder) / "film.mp4", args.frames)
        reader = VideoReader(path)
        frames, reading = timed(lambda: [frame.image for frame in reader])
        detector = make_detector(config.faces)
        scan, looking = timed(lambda: scan_video(reader, detector, config.faces, every=config.faces.every))
        job = Job(path, Path(folder) / "out.mp4")
        plan = make_plan(job, args.frames, scan, {}, config)

        def stream(restorer: object) -> list[np.ndarray]:
            canvas = Frames(WIDTH, HEIGHT)
            film = FilmStream(reader, plan, {"others": restorer}, canvas, config, 0, lambda _: None)
            return [film.next()[0] for _ in range(args.frames)]

        result, pasting = timed(lambda: stream(Untouched()))
        _, encoding = timed(lambda: write(job.output, result, config.video.crf, config.video.preset))
        role, size = plan.roles[0], config.video.size
        squares = [(i, role.low(i, frames[i], size)) for i in range(role.start, role.stop)]
        restorer = Restorer(config)
        windows = role.windows(config, (0, args.frames))
        _, restoring = timed(lambda: list(restorer.restore_stream(squares, windows)))
    parts = {"detection and tracking": looking - reading, "cropping and pasting": pasting - reading}
    parts["encoding"] = encoding
    print(f"{args.frames} frames of {WIDTH} x {HEIGHT}, {len(plan.roles)} face, detector {detector.name}; ms a frame:")
    for name, seconds in {"reading (not counted)": reading, **parts, "restoring": restoring}.items():
        print(f"  {name:<24}{seconds / args.frames * 1e3:8.1f}")
    share = sum(parts.values()) / restoring
    print(f"all but restoring and reading: {share:.1%} of restoring (limit {SHARE:.0%})")
    return int(share > SHARE)


def timed(work: Callable) -> tuple:
    """What ``work`` gives, and the processor's seconds that it took."""
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def make_film(path: Path, count: int) -> Path:
    """The sample person in front of a smooth wall, as soft as an old film."""
    rng = np.random.default_rng(0)
    wall = cv2.resize(rng.integers(60, 190, (9, 16, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    faces = sample_clip(count, FACE)
    images = []
    for face in faces:
        image = wall.copy()
        image[180 : 180 + FACE, 440 : 440 + FACE] = face
        images.append(cv2.GaussianBlur(image, (0, 0), 2))
    return write(path, images, 20, "veryfast")


def write(path: Path, images: list[np.ndarray], crf: int, preset: str) -> Path:
    """Write frames as a video."""
    with VideoWriter(path, WIDTH, HEIGHT, 25, crf=crf, preset=preset) as writer:
        for image in images:
            writer.write(image)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
