"""Degrade a video by Eq. 13: ``python -m ipfvr.degrade IN OUT --level heavy --seed 1``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ipfvr.core.errors import run_verb


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.degrade", description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="a sharp video")
    parser.add_argument("output", type=Path, help="OUT.mp4, .mov or .mkv; the parameters go to OUT.json beside it")
    parser.add_argument("--level", help="light, heavy or severe; default: degradation.level of the configuration")
    parser.add_argument("--seed", type=int, help="default: the configuration's")
    parser.add_argument("--scale", type=int, help="r of Eq. 13; default: video.scale of the configuration")
    parser.add_argument(
        "--size", type=int, help="the side for which sigma is scaled; default: the video's shorter side"
    )
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options, such as video.scale=4")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = make_parser().parse_intermixed_args(argv)
    # Imported here, since this takes seconds that --help does not need.
    from ipfvr.core.config import load_config
    from ipfvr.core.files import write_json
    from ipfvr.core.provenance import versions
    from ipfvr.data.degrade_video import degrade_video
    from ipfvr.degradation.pipeline import sample_parameters
    from ipfvr.video.reader import VideoReader

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
