"""The tables' rows: ``python -m ipfvr.methods`` lists them, ``python -m ipfvr.methods NAME CLIP`` runs one on a clip.

CLIP is a low-quality square face crop, a video or a folder of frames. The result is a folder of frames, and beside it
JSON with what made it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from ipfvr.config import load_config
from ipfvr.errors import UserError, run_verb
from ipfvr.files import write_json
from ipfvr.methods.base import Case
from ipfvr.methods.catalogue import list_methods, make_method
from ipfvr.options import Config
from ipfvr.provenance import provenance
from ipfvr.video.footage import Clip
from ipfvr.video.reader import VideoReader


def main(argv: list[str] | None = None) -> None:
    """See the module's docstring."""
    args = _parser().parse_intermixed_args(argv)
    # --reference takes all that follows it, the key=value pairs too.
    pairs = [word for word in args.reference if "=" in word and not Path(word).exists()]
    pictures = tuple(Path(word) for word in args.reference if word not in pairs)
    words = [word for word in (args.method, args.clip) if word is not None]
    pairs += [word for word in words if "=" in word] + args.overrides
    words = [word for word in words if "=" not in word]
    config = load_config(args.config, pairs)
    if not words:
        print(table(config))
        return
    method = make_method(words[0], config)
    if len(words) < 2:
        print(f"{method.title} ({method.family}; licence: {method.licence}): {method.missing() or 'can run'}")
        return
    low = Path(words[1])
    if not low.exists():
        raise UserError(f"no clip {low}")
    clip, output = Clip(low.stem, low), args.output or low.with_name(f"{low.stem}_{method.name}")
    fps = VideoReader(low).info.rate if low.is_file() else Fraction(25)
    size = args.size or config.video.size
    case = Case(low.stem, args.identity, low, size, clip.frames, fps, pictures, args.prompt, args.lora, config.seed)
    reason = method.missing()
    if reason is not None:
        raise UserError(reason)
    report = method.restore(case, output)
    made = provenance(config, config.seed, report.weights)
    write_json(output.with_name(output.name + ".json"), {"case": asdict(case), "report": asdict(report), **made})
    print(f"{output}: {report.frames} frames in {report.seconds:.1f} s")
    for note in report.notes:
        print(f"note: {note}")


def table(config: Config) -> str:
    """Every row as Markdown: what it is, its licence, and whether it can run."""
    lines = ["| row | title | kind | licence | state |", "|---|---|---|---|---|"]
    for name in list_methods(config):
        row = make_method(name, config)
        lines.append(f"| {name} | {row.title} | {row.family} | {row.licence} | {row.missing() or 'can run'} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ipfvr.methods", description="List or run the rows of the tables.")
    parser.add_argument("method", nargs="?", help="a row's name; without it they are listed")
    parser.add_argument("clip", nargs="?", help="low-quality video or folder of frames; without it: can the row run?")
    parser.add_argument("--output", type=Path, help="folder of frames; default: CLIP_METHOD beside the clip")
    parser.add_argument("--size", type=int, help="side of the frames asked for, pixels; default: video.size")
    parser.add_argument("--reference", nargs="+", default=[], help="pictures of the person")
    parser.add_argument("--identity", default="person", help="who it is: folder of the landmarks of DMDNet")
    parser.add_argument("--prompt", type=Path, help="a prompt.yaml")
    parser.add_argument("--lora", type=Path, help="folder of a LoRA of this person")
    parser.add_argument("--config", help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as methods.keep.folder=/path/to/KEEP")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
