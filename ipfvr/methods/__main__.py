"""The tables' rows: ``python -m ipfvr.methods`` lists them, ``python -m ipfvr.methods NAME CLIP`` runs one on a clip.

CLIP is a low-quality square face crop, a video or a folder of frames. The result is a folder of frames with a JSON
beside it that records how it was made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ipfvr.core.errors import run_verb


def main(argv: list[str] | None = None) -> None:
    """Run the command line; the module's docstring shows its use."""
    args = make_parser().parse_intermixed_args(argv)
    # --reference takes all words that follow it, so key=value pairs among them are sorted out here.
    pairs = [word for word in args.reference if "=" in word and not Path(word).exists()]
    pictures = tuple(Path(word) for word in args.reference if word not in pairs)
    words = [word for word in (args.method, args.clip) if word is not None]
    pairs += [word for word in words if "=" in word] + args.overrides
    words = [word for word in words if "=" not in word]
    # Imported here, since this takes seconds that --help does not need.
    from ipfvr.core.config import load_config
    from ipfvr.methods.run import run_on_clip, state, table

    config = load_config(args.config, pairs)
    if not words:
        print(table(config))
    elif len(words) < 2:
        print(state(words[0], config))
    else:
        print(
            run_on_clip(
                words[0],
                Path(words[1]),
                config,
                output=args.output,
                size=args.size,
                references=pictures,
                identity=args.identity,
                prompt=args.prompt,
                lora=args.lora,
            )
        )


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.methods", description="List or run the rows of the tables.")
    parser.add_argument("method", nargs="?", help="a row's name; without it all rows are listed")
    parser.add_argument("clip", nargs="?", help="low-quality video or folder of frames; without it: can the row run?")
    parser.add_argument("--output", type=Path, help="folder of frames; default: CLIP_METHOD beside the clip")
    parser.add_argument("--size", type=int, help="side of the output frames, pixels; default: video.size")
    parser.add_argument("--reference", nargs="+", default=[], help="pictures of the person")
    parser.add_argument("--identity", default="person", help="the person; names the folder of landmarks for DMDNet")
    parser.add_argument("--prompt", type=Path, help="a prompt.yaml")
    parser.add_argument("--lora", type=Path, help="folder of the person's LoRA")
    parser.add_argument("--config", help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as methods.keep.folder=/path/to/KEEP")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
