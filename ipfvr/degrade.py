"""``python -m ipfvr.degrade IN OUT --level heavy --seed 1``: Eq. 13 on a video file of any length."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.config import load_config
from ipfvr.degradation import ENCODER_RATE, LEVELS, Parameters, before_last_encode, sample_parameters
from ipfvr.errors import UserError, run_verb
from ipfvr.files import write_json
from ipfvr.provenance import versions
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter


def degrade_video(source: str | Path, output: str | Path, parameters: Parameters) -> dict[str, Any]:
    """Degrade a video file, frame by frame: memory does not grow with its length.

    The last H.264 encode of Eq. 13 is the file itself, so reading it gives exactly the frames of
    :func:`ipfvr.degradation.degrade` on the whole clip. Times of the frames, the shape of the pixels and the sound are
    the source's.

    Returns:
        what was written: ``frames``, ``width``, ``height``, ``sound``.

    Raises:
        UserError: as :class:`VideoReader` and :class:`VideoWriter`, or input and output are one file.
    """
    reader = VideoReader(source)
    info = reader.info
    if Path(output).exists() and Path(output).samefile(info.path):
        raise UserError(f"{output} is the input itself; choose another output")
    width, height = info.width // parameters.scale, info.height // parameters.scale
    # The first round's encoder looks ahead, so the times wait here until their frames come out.
    times: deque[int] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in reader:
            times.append(frame.pts)
            yield frame.image

    with VideoWriter(
        output,
        width,
        height,
        info.rate,
        info.time_base,
        crf=parameters.rounds[-1].crf,
        sound_from=info.path,
        sample_aspect_ratio=info.sample_aspect_ratio,
        encoder_rate=ENCODER_RATE,
    ) as writer:
        for image in before_last_encode(images(), parameters):
            writer.write(image, times.popleft())
    return {"frames": writer.frames, "width": width, "height": height, "sound": writer.sound}


def main(argv: list[str] | None = None) -> None:
    """Command line of the verb."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.degrade", description=degrade_video.__doc__.split("\n")[0])
    parser.add_argument("input", type=Path, help="a sharp video")
    parser.add_argument("output", type=Path, help="OUT.mp4, .mov or .mkv; the parameters go to OUT.json beside it")
    parser.add_argument("--level", choices=LEVELS, help="default: degradation.level of the configuration")
    parser.add_argument("--seed", type=int, help="default: the configuration's")
    parser.add_argument("--scale", type=int, help="r of Eq. 13; default: video.scale of the configuration")
    parser.add_argument("--size", type=int, help="side for which sigma is scaled; default: the video's shorter side")
    parser.add_argument("--config", type=Path, help="experiment YAML")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options on top of the configuration")
    args = parser.parse_intermixed_args(argv)
    config = load_config(args.config, args.overrides)
    info = VideoReader(args.input).info
    parameters = sample_parameters(
        level=args.level or config.degradation.level,
        scale=config.video.scale if args.scale is None else args.scale,
        size=min(info.width, info.height) if args.size is None else args.size,
        seed=config.seed if args.seed is None else args.seed,
        scale_sigma=config.degradation.scale_sigma,
    )
    written = degrade_video(args.input, args.output, parameters)
    beside = args.output.with_suffix(".json")
    record = {"input": str(args.input), "output": str(args.output), **written, "parameters": parameters.to_dict()}
    write_json(beside, {**record, "versions": versions()})
    print(
        f"{args.output}: {written['frames']} frames of {written['width']} x {written['height']}, {parameters.level}, "
        f"seed {parameters.seed}, sound {written['sound']}; parameters in {beside}"
    )


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
