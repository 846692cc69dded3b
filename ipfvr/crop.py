"""Crop the main face of a video to an aligned square video: ``python -m ipfvr.crop IN.mp4 OUT.mp4``.

``OUT.json`` beside it holds the transform of every frame, so that a crop can be pasted back exactly. Frames without the
face are not in the crop video; the JSON lists them. Times are those of the source.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ipfvr.core.errors import run_verb


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.crop", description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="the video")
    parser.add_argument("output", type=Path, help="OUT.mp4; OUT.json is written beside it")
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as video.size=256")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = make_parser().parse_intermixed_args(argv)
    # Imported here, since this takes seconds that --help does not need.
    from ipfvr.core.config import load_config
    from ipfvr.faces.crop_video import crop_video

    report = crop_video(args.input, args.output, load_config(args.config, args.overrides))
    print(
        f"{args.output}: {report['cropped']} of {report['frames']} frames, {report['size']} x {report['size']}, "
        f"detector {report['detector']}; transforms in {args.output.with_suffix('.json')}"
    )


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
