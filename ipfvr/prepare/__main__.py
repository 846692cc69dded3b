"""Make the data layout from raw videos and pictures: ``python -m ipfvr.prepare --videos V --pictures P --root ROOT``.

V and P hold one folder for each person (they may be the same folder): videos that show the person, alone or among
others, and pictures of the person. ROOT/<identity>/{reference,train,test} gets aligned square crops: the faces of the
pictures, and the scenes between cuts that show the person large and sharp enough. Training and test scenes never come
from the same video. ``ROOT/prepare.html`` shows what was kept and what was dropped, and why; ``ROOT/prepare.json``
holds the numbers. A person's folder that was made from the same files with the same options is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ipfvr.core.errors import run_verb


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.prepare", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--videos", type=Path, required=True, help="a folder that holds one folder of videos for each person"
    )
    parser.add_argument(
        "--pictures", type=Path, help="a folder that holds one folder of pictures for each person; default: VIDEOS"
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder in which <identity>/... is created")
    parser.add_argument("--people", help="only these identities, separated by commas")
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as prepare.size=160")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = make_parser().parse_intermixed_args(argv)
    # Imported here, since this takes seconds that --help does not need.
    from ipfvr.core.config import load_config
    from ipfvr.prepare.people import prepare_people

    config = load_config(args.config, args.overrides)
    identities = args.people.split(",") if args.people else None
    print(prepare_people(args.videos, args.pictures or args.videos, args.root, config, identities))


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
