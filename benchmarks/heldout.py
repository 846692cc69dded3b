"""Mini against bicubic on sharp clips of people kept out of every training, light and heavy.

    python benchmarks/heldout.py --root data/mini --output runs/heldout

ROOT is the layout that ``experiments/mini/prepare.py`` makes: aligned crops in ``<identity>/train/*.mp4``. Each
clip is degraded by Eq. 13 (the seed is the clip's number), restored by ``ipfvr.restore`` as a file, and scored
by the metrics of ``ipfvr.evaluate``. Writes ``table.md``, ``scores.json`` and a picture a clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import degraded, held_out, parse_lists, shrink
from tqdm import tqdm

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic, write_json
from ipfvr.core.pixels import resize_frames
from ipfvr.data.layout import CLIPS, list_files
from ipfvr.demo.run import INPUT_CRF, RATE
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.metrics.evaluation import Scorer, evaluate_clip, make_scorer
from ipfvr.metrics.intervals import summary_of
from ipfvr.metrics.protocol import protocol
from ipfvr.report.numbers import interval
from ipfvr.video.reader import read_frames
from ipfvr.video.strips import strip
from ipfvr.video.writer import write_picture, write_video

SHARP = ("id04_c01", "id05_c01", "id06_c01", "id07_c01", "id08_c01", "id11_c01", "id17_c01", "id18_c01")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/heldout"))
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--clips", nargs="+", default=list(SHARP))
    parser.add_argument("--levels", nargs="+", default=["light", "heavy"])
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parse_lists(parser, argv, "clips", "levels")
    config = load_config(None, args.overrides)
    files = [f for f in list_files(held_out(args.root), "train", CLIPS) if f.stem in args.clips]
    if not files:
        raise UserError(f"none of {', '.join(sorted(args.clips))} is a clip of a person held out in {args.root}")
    scorer, size = make_scorer(config), config.video.size
    rows: dict[str, list] = {}
    for level in args.levels:
        config.degradation.level = level
        for number, file in enumerate(tqdm(files, desc=level, leave=False)):
            sharp = shrink(read_frames(file, 0, args.frames), size)
            folder = args.output / level / file.stem
            write_video(folder / "low_quality.mp4", degraded(sharp, config, number), RATE, INPUT_CRF)
            restore(Job(folder / "low_quality.mp4", folder / "restored.mp4", aligned=True), config)
            low = read_frames(folder / "low_quality.mp4")
            clips = {"bicubic": resize_frames(low, size), "mini": read_frames(folder / "restored.mp4")}
            for name, frames in clips.items():
                row = evaluate_clip(frames, sharp, None, scorer, name=f"{file.stem}")
                rows.setdefault(f"{level} {name}", []).append(row)
            shown = np.linspace(0, len(sharp) - 1, 4).astype(int).tolist()
            write_picture(folder / "frames.png", strip({**clips, "truth": sharp}, shown, 256))
    text = table(rows, scorer)
    with atomic(args.output / "table.md") as temporary:
        temporary.write_text(text)
    record = {name: [row.__dict__ for row in clips] for name, clips in rows.items()}
    write_json(args.output / "scores.json", {"rows": record, "protocol": protocol(next(iter(rows.values())), scorer)})
    print(text)


def table(rows: dict[str, list], scorer: Scorer) -> str:
    """Means over people with 95 % intervals over people and their clips, and a line a clip, named <person>_<scene>."""
    scored = [row.scores for clips in rows.values() for row in clips]
    infos = {key: info for key, info in scorer.infos().items() if all(scores[key] is not None for scores in scored)}
    lines = ["| | " + " | ".join(i.heading for i in infos.values()) + " |", "|---" * (len(infos) + 1) + "|"]
    for name, clips in rows.items():
        cells = []
        for key, info in infos.items():
            cells.append(interval(summary_of((row.name.partition("_")[0], row.scores[key]) for row in clips), info))
        lines.append(f"| {name} (mean of {len(clips)}) | " + " | ".join(cells) + " |")
        for row in clips:
            cells = [f"{row.scores[key]:.{info.digits}f}" for key, info in infos.items()]
            lines.append(f"| {name} {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
