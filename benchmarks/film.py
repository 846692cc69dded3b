"""Time the work around the restoration of a film: detection, tracking, pasting and encoding.

    python benchmarks/film.py

A 720p film with one face, mini. Seconds are the processor's, so that other work on the machine does not count; all
parts are timed in turns, several rounds, and the medians are shown. Exit status 1 when all of it together takes more
than 15 % of the time of restoring. Reading is printed and not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from ipfvr.core.config import load_config
from ipfvr.data.sample import sample_clip
from ipfvr.faces.detect import make_detector
from ipfvr.faces.track import scan_video
from ipfvr.film.job import Job
from ipfvr.film.plan import OTHERS, make_plan
from ipfvr.film.stream import FilmStream, Frames
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter

SHARE = 0.15
WIDTH, HEIGHT, FACE = 1280, 720, 360  # the sample's square in the frame, pixels


class Untouched:
    """Stands where a restorer does, and costs nothing."""

    def restore_stream(self, crops: Iterable, windows: object, **rest: object) -> Iterator:
        """Every square as it is."""
        return iter(crops)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=56, help="of the film")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    config = load_config(None, args.overrides)
    with tempfile.TemporaryDirectory() as folder:
        path, out = make_film(Path(folder) / "film.mp4", args.frames), Path(folder) / "out.mp4"
        reader, detector, restorer = VideoReader(path), make_detector(config.faces), Restorer(config)
        images = [frame.image for frame in reader]
        scan = scan_video(reader, detector, config.faces, every=config.faces.every)
        plan = make_plan(Job(path, out), args.frames, scan, {}, config)
        presence, size = plan.presences[0], config.video.size
        squares = [(i, presence.low(i, images[i], size)) for i in range(presence.start, presence.stop)]
        windows = presence.windows(config, (0, args.frames))

        def read() -> None:
            for _ in reader:
                pass

        def find() -> None:
            scan_video(reader, detector, config.faces, every=config.faces.every)

        def paste() -> None:
            film = FilmStream(reader, plan, {OTHERS: Untouched()}, Frames(WIDTH, HEIGHT), config, 0, lambda _: None)
            for _ in range(args.frames):
                film.next()

        def encode() -> None:
            write(out, images, config.video.crf, config.video.preset)

        def restore() -> None:
            for _ in restorer.restore_stream(squares, windows, restorer.conditions()):
                pass

        work = (read, find, paste, encode, restore)
        rounds = np.array([[seconds(one) for one in work] for _ in range(args.rounds)]) / args.frames
    reading, finding, pasting, encoding, restoring = np.median(rounds, 0)
    parts = {"finding faces": finding - reading, "cropping and pasting": pasting - reading, "encoding": encoding}
    print(
        f"{args.frames} frames of {WIDTH} x {HEIGHT}, {len(plan.presences)} face, detector {detector.name}; ms a frame:"
    )
    for name, each in {"reading (not counted)": reading, **parts, "restoring": restoring}.items():
        print(f"  {name:<24}{each * 1e3:8.1f}")
    around = rounds[:, 1] + rounds[:, 2] - 2 * rounds[:, 0] + rounds[:, 3]
    shares = around / rounds[:, 4]
    share = sum(parts.values()) / restoring
    print(
        f"all but restoring and reading: {share:.1%} of restoring, {shares.min():.1%} to {shares.max():.1%} over "
        f"{args.rounds} rounds (limit {SHARE:.0%})"
    )
    return int(share > SHARE)


def seconds(work: Callable[[], None]) -> float:
    """The processor's seconds that ``work`` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


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
