"""Describe a person in words: ``python -m ipfvr.describe REF.jpg [REF2.jpg ...] --output prompt.yaml``.

The command prints the attributes with their probabilities, the emotion and both prompts. It writes them to a file that
can be edited and given to ``python -m ipfvr.restore --prompt prompt.yaml``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ipfvr.core.errors import run_verb


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.describe", description=__doc__.splitlines()[0])
    parser.add_argument(
        "references", nargs="+", metavar="PICTURE", help="pictures of one person, and key=value options"
    )
    parser.add_argument("--face", type=int, default=0, help="which face of a picture, counted from 1 on the left")
    parser.add_argument("--output", type=Path, help="write the description to this YAML file, which can be edited")
    parser.add_argument("--config", type=Path, help="an experiment file")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = make_parser().parse_intermixed_args(argv)
    pairs = [r for r in args.references if "=" in r and not Path(r).exists()]
    pictures = [Path(r) for r in args.references if r not in pairs]
    # Imported here, since this takes seconds that --help does not need.
    from ipfvr.conditioning.pictures import describe_pictures
    from ipfvr.core.config import load_config

    print(describe_pictures(pictures, load_config(args.config, pairs), args.face, args.output))


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
