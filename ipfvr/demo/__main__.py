"""Show what ipfvr does, without a download: ``python -m ipfvr.demo [--output demo] [key=value ...]``.

The command makes a sharp sample clip from a picture in an installed package (:mod:`ipfvr.data.sample`), degrades it by
Eq. 13, restores it without and with a reference by the same function as ``python -m ipfvr.restore --aligned``, and
compares the results with bicubic enlargement on one HTML page. With ``--video`` and ``--reference`` it restores your
own film without degrading it, and writes the page of ``python -m ipfvr.restore``: frames before and after.
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from ipfvr.core.errors import UserError, run_verb


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--video", type=Path, help="your own video, which is restored without being degraded first")
    parser.add_argument("--reference", type=Path, nargs="+", default=[], help="pictures of the person in it")
    parser.add_argument("--level", default="", help="the degradation of the sample: light, heavy, severe")
    parser.add_argument(
        "--frames", type=int, help="restore this many frames (default: 48 of the sample, all of your own video)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as sampler.steps=8")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line; the module's docstring shows its use."""
    args = make_parser().parse_intermixed_args(argv)
    pairs = [str(word) for word in args.reference if "=" in str(word) and not word.exists()]
    references = [word for word in args.reference if str(word) not in pairs]
    if references and not args.video:
        raise UserError("--reference needs --video: the sample has its own picture")
    if args.video and args.level:
        raise UserError("--level degrades the sample, and your own --video is not degraded: leave --level out")
    if args.frames is not None and args.frames < 1:
        raise UserError(f"--frames is {args.frames}; it must be 1 or more")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file; name a folder")
    # Imported here, since this takes seconds that --help does not need.
    from ipfvr.core.config import load_config
    from ipfvr.demo.run import FRAMES, PAGE, run, run_own

    config = load_config(args.config, [*args.overrides, *pairs])
    if args.video:
        print(run_own(args.output, config, args.video, references, args.frames))
    else:
        print(run(args.output, config, args.frames or FRAMES, args.level or config.degradation.level))
    if args.open:
        webbrowser.open((args.output / PAGE).resolve().as_uri())


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
