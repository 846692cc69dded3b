"""Make the data layout of raw videos and pictures: ``python -m ipfvr.prepare --videos V --pictures P --root ROOT``.

V and P hold a folder a person (they may be one and the same): videos that show the person, alone or among others, and
pictures of the person. ROOT/<identity>/{reference,train,test} gets aligned square crops: the pictures' faces, and the
scenes, cut at cuts, in which the person is seen, large and sharp enough. Scenes to train on and to test on are never of
one video. ``ROOT/prepare.html`` shows what was kept and what was dropped, and why; ``ROOT/prepare.json`` says it in
numbers. A person who is there already, made of the same files with the same options, is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ipfvr.core.errors import run_verb


def make_parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, required=True, help="a folder with a folder of videos a person")
    parser.add_argument("--pictures", type=Path, help="a folder with a folder of pictures a person; default: VIDEOS")
    parser.add_argument("--root", type=Path, required=True, help="where ROOT/<identity>/... is made")
    parser.add_argument("--people", help="only these identities, separated by commas")
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as prepare.size=160")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = make_parser().parse_intermixed_args(argv)
    # Imported here: --help needs none of the seconds that this takes.
    from ipfvr.core.config import load_config
    from ipfvr.prepare.people import prepare_people

    config = load_config(args.config, args.overrides)
    wanted = args.people.split(",") if args.people else None
    print(prepare_people(args.videos, args.pictures or args.videos, args.root, config, wanted))


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
