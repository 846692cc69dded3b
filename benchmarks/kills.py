"""A restoration that is killed at random moments and taken up each time ends in the bytes of the undisturbed one.

    python benchmarks/kills.py
    python benchmarks/kills.py --kills 5 --frames 48 --output runs/kills preset=mini sampler.steps=2

Each run is a process of its own, ended by SIGKILL. Where a job is done before all kills are used up, the same is begun
anew under another name. The moments are drawn between 0 and 0.4 of the time that the undisturbed run takes, so that a
job is killed several times. The default is the tiny preset with layers of random weights that let every frame depend on
the clips before it (Eq. 10). Exit status 1 where the bytes of any output differ.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ipfvr.core.config import load_config
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config
from ipfvr.data.sample import sample_clip
from ipfvr.film.job import Job
from ipfvr.video.writer import VideoWriter

DEFAULT = ["preset=tiny", "sampler.steps=3", "prompt.describe=false", "device=cpu"]
WIDTH, HEIGHT, FACE, GAP = 320, 240, 160, 9  # pixels; frames without a face, in the middle
LATEST = 0.4  # of the undisturbed run's time
IMPORTED = [
    "ipfvr.film.inputs",
    "ipfvr.film.people",
    "ipfvr.film.analysis",
    "ipfvr.film.run",
    "ipfvr.film.write",
]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--frames", type=int, default=120, help="of the film")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=Path, default=Path("runs/kills"), help="folder of the films")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    config = load_config(None, [*DEFAULT, *args.overrides])
    if config.preset == "tiny" and not config.weights.denoiser:
        config = lively(config, args.output / "denoiser.safetensors")
    film = make_film(args.output / "film.mp4", args.frames)
    whole = Job(film, args.output / "whole.mp4")
    whole.output.unlink(missing_ok=True)
    in_process(time.sleep, 0)  # until everything is imported
    took = run(whole, config)
    print(f"undisturbed: {took:.1f} s, sha256 {sha256(whole.output)}")
    print("| kill | job | after (s) | parts there | sha256 of the finished job |\n|---|---|---|---|---|", flush=True)
    rng, kills, number, same = np.random.default_rng(args.seed), 0, 0, True
    while kills < args.kills:
        number += 1
        job = replace(whole, output=args.output / f"job{number}.mp4")
        job.output.unlink(missing_ok=True)
        while not job.output.exists():
            moment = float(rng.uniform(0, LATEST)) * took if kills < args.kills else None
            if run(job, config, moment) is None:
                kills += 1
                there = len(list((args.output / f".{job.output.name}.parts").glob("0*.mp4")))
                print(f"| {kills} | {number} | {moment:.2f} | {there} | |", flush=True)
        same &= sha256(job.output) == sha256(whole.output)
        print(f"| | {number} | | | {sha256(job.output)} |", flush=True)
    print(f"{kills} kills, {number} jobs: {'the same bytes each time' if same else 'the bytes differ'}")
    return int(not same)


def run(job: Job, config: Config, kill_after: float | None = None) -> float | None:
    """Restore in a process of its own: the seconds it took; None: it was killed after ``kill_after`` seconds.

    Raises:
        SystemExit: it failed by itself.
    """
    began = time.monotonic()
    status = in_process(work, job, config, kill_after=kill_after)
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the run of {job.output} ended with {status}")
    return None if status else time.monotonic() - began


def in_process(target: Callable, *args: object, kill_after: float | None = None) -> int:
    """Call in a process of its own, killed after so many seconds; its exit status."""
    context = multiprocessing.get_context("forkserver")  # imports once, and forks from there
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=target, args=args)
    process.start()
    process.join(kill_after)
    process.kill()
    process.join()
    return process.exitcode


def work(job: Job, config: Config) -> None:
    """What is killed."""
    from ipfvr.film.run import restore

    restore(job, config)


def lively(config: Config, path: Path) -> Config:
    """With a denoiser of random weights, written to ``path``, no layer of which is zero as it is before training."""
    import torch
    from safetensors.torch import save_file

    from ipfvr.models.backbone import make_denoiser

    torch.manual_seed(0)
    denoiser = make_denoiser(config)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(denoiser.state_dict(), path)
    return replace(config, weights=replace(config.weights, denoiser=str(path)))


def make_film(path: Path, count: int) -> Path:
    """The sample person in front of a wall, gone for ``GAP`` frames in the middle."""
    wall = cv2.resize(np.random.default_rng(0).integers(60, 190, (6, 8, 3), dtype=np.uint8), (WIDTH, HEIGHT))
    with VideoWriter(path, WIDTH, HEIGHT, 25, crf=12, preset="veryfast") as writer:
        for index, face in enumerate(sample_clip(count, FACE)):
            image = wall.copy()
            if not 0 <= index - count // 2 < GAP:
                image[40 : 40 + FACE, 80 : 80 + FACE] = face
            writer.write(image)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
