"""Show what ipfvr does, without a download: ``python -m ipfvr.demo [--output demo] [key=value ...]``.

A sharp sample clip is made from what installed packages carry (:mod:`ipfvr.data.sample`), degraded by Eq. 13,
restored by the same function as ``python -m ipfvr.restore --aligned``, without and with a reference, and compared with
bicubic enlargement on one HTML page. With ``--video`` and ``--reference`` your own film is restored as it is, and the
page is that of ``python -m ipfvr.restore``: frames before and after.
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from ipfvr.core.errors import UserError, run_verb


def make_parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--video", type=Path, help="a video of your own, restored as it is")
    parser.add_argument("--reference", type=Path, nargs="+", default=[], help="pictures of the person in it")
    parser.add_argument("--level", default="", help="how the sample is degraded: light, heavy, severe")
    parser.add_argument(
        "--frames", type=int, help="restore this many frames (default: 48 of the sample, all of your own video)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as sampler.steps=8")
    return parser


def main(argv: list[str] | None = None) -> None:
    """The verb; the module's docstring shows its use."""
    args = make_parser().parse_intermixed_args(argv)
    pairs = [str(word) for word in args.reference if "=" in str(word) and not word.exists()]
    references = [word for word in args.reference if str(word) not in pairs]
    if references and not args.video:
        raise UserError("--reference needs --video: the sample brings its own picture")
    if args.video and args.level:
        raise UserError("--level degrades the sample; a --video of your own is restored as it is: leave --level out")
    if args.frames is not None and args.frames < 1:
        raise UserError(f"--frames {args.frames}: give 1 or more")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file; name a folder")
    # Imported here: --help needs none of the seconds that this takes.
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
