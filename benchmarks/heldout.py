"""Mini against bicubic on sharp clips of people kept out of every training, light and heavy.

    python benchmarks/heldout.py --root data/mini --output runs/heldout

ROOT is the layout that ``experiments/mini/prepare.py`` makes: aligned crops in ``<identity>/train/*.mp4``. Each
clip is degraded by Eq. 13 (the seed is the clip's number), restored by ``ipfvr.restore`` as a file, and scored
by the metrics of ``ipfvr.evaluate``. Writes ``table.md``, ``scores.json`` and a picture a clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ipfvr.config import load_config
from ipfvr.data.faces import CLIPS, list_files, list_identities
from ipfvr.degradation import degrade, sample_parameters
from ipfvr.demo import INPUT_CRF, write_clip, write_picture
from ipfvr.errors import UserError, run_verb
from ipfvr.files import atomic, write_json
from ipfvr.metrics.evaluation import all_infos, evaluate_clip, make_scorer
from ipfvr.metrics.protocol import bootstrap_interval, protocol
from ipfvr.pixels import resize, to_frames, to_tensor
from ipfvr.report.pictures import strip
from ipfvr.restore import Job, restore
from ipfvr.video.reader import VideoReader, read_frames

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
    args = parser.parse_intermixed_args(argv)
    config = load_config(None, [o for o in args.overrides + args.clips + args.levels if "=" in o])
    wanted = {name for name in args.clips if "=" not in name}
    people = list_identities(args.root, Path(__file__).parents[1] / "experiments/mini/heldout.yaml", held=True)
    files = [f for f in list_files(people, "train", CLIPS) if f.stem in wanted]
    if not files:
        raise UserError(f"none of {', '.join(sorted(wanted))} is a clip of a person held out in {args.root}")
    scorer, size = make_scorer(config), config.video.size
    rows: dict[str, list] = {}
    for level in [name for name in args.levels if "=" not in name]:
        for number, file in enumerate(tqdm(files, desc=level, leave=False)):
            sharp = shrink(file, args.frames, size)
            parameters = sample_parameters(level, config.video.scale, size, number, config.degradation.scale_sigma)
            folder = args.output / level / file.stem
            write_clip(folder / "low_quality.mp4", degrade(sharp, parameters), INPUT_CRF)
            restore(Job(folder / "low_quality.mp4", folder / "restored.mp4", aligned=True), config, quiet=True)
            low = read_frames(folder / "low_quality.mp4")
            clips = {"bicubic": to_frames(resize(to_tensor(low), size)), "mini": read_frames(folder / "restored.mp4")}
            for name, frames in clips.items():
                row = evaluate_clip(frames, sharp, None, scorer, name=f"{file.stem}")
                rows.setdefault(f"{level} {name}", []).append(row)
            shown = np.linspace(0, len(sharp) - 1, 4).astype(int).tolist()
            write_picture(folder / "frames.png", strip({**clips, "truth": sharp}, shown, 256))
    text = table(rows)
    with atomic(args.output / "table.md") as temporary:
        temporary.write_text(text)
    record = {name: [row.__dict__ for row in clips] for name, clips in rows.items()}
    write_json(args.output / "scores.json", {"rows": record, "protocol": protocol(next(iter(rows.values())), scorer)})
    print(text)


def shrink(file: Path, frames: int, size: int) -> np.ndarray:
    """The first frames of a clip of aligned crops, area-averaged to ``size``: (F, size, size, 3)."""
    count = min(frames, VideoReader(file).info.frames)
    return np.stack([cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in read_frames(file, 0, count)])


def table(rows: dict[str, list]) -> str:
    """Means over clips with 95 % bootstrap intervals, and a line a clip."""
    infos = {k: i for k, i in all_infos().items() if all(r.scores[k] is not None for rs in rows.values() for r in rs)}
    lines = ["| | " + " | ".join(i.heading for i in infos.values()) + " |", "|---" * (len(infos) + 1) + "|"]
    for name, clips in rows.items():
        cells = []
        for key, info in infos.items():
            values = [row.scores[key] for row in clips]
            low, high = bootstrap_interval(values) if len(values) > 1 else (values[0], values[0])
            cells.append(f"{np.mean(values):.{info.digits}f} [{low:.{info.digits}f}, {high:.{info.digits}f}]")
        lines.append(f"| {name} (mean of {len(clips)}) | " + " | ".join(cells) + " |")
        for row in clips:
            cells = [f"{row.scores[key]:.{info.digits}f}" for key, info in infos.items()]
            lines.append(f"| {name} {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
