"""Compare sizes of mini at equal time: each learns for as long, then validation people score it.

    python experiments/mini/compare_sizes.py --root data/mini
    python experiments/mini/compare_sizes.py --root data/mini --minutes 60 --only shipped,channels_32

``sizes.yaml`` lists the sizes. Each has its own codec (``codec.yaml``) and is trained by ``joint.yaml`` without a
discriminator, which comes late in a training. Those that go on from the denoiser of 128 pixels need it and its codec:
``train.py --only vae,base,base_clips`` makes both. The scores are those of ``experiments/quality/references.py``: heavy
degradation, two pictures of each validation person, one reference. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from omegaconf import OmegaConf
from train import HERE, STAGES, paced, run, where

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic

SCORER = HERE.parent / "quality/references.py"
sys.path.append(str(SCORER.parent))  # its helpers, common.py
CODEC, JOINT = STAGES[-2:]
WITHOUT = "polish.adversarial=0", "polish.matching=0"
# Of the table: the heading, the metric, the row of references.py, the row that is subtracted, digits.
SHOWN = (
    ("PSNR, dB", "psnr", "none", "", 2),
    ("IDS, none", "ids_gt", "none", "", 4),
    ("IDS, right", "ids_gt", "right", "", 4),
    ("right - none", "ids_gt", "right", "none", 4),
    ("NIQE", "niqe", "none", "", 2),
)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/mini"), help="the data, as prepare.py lays them out")
    parser.add_argument("--made", type=Path, default=Path("runs/train_mini"), help="where train.py wrote its stages")
    parser.add_argument("--output", type=Path, default=Path("runs/sizes"))
    parser.add_argument("--minutes", type=float, default=15.0, help="of each training")
    parser.add_argument("--pictures", type=int, default=2, help="of each validation person")
    parser.add_argument("--only", default="", help="sizes, separated by commas")
    args = parser.parse_args(argv)
    sizes = OmegaConf.to_container(OmegaConf.load(HERE / "sizes.yaml").sizes)
    only = [name for name in args.only.split(",") if name] or list(sizes)
    if unknown := set(only) - set(sizes):
        raise UserError(f"no size {', '.join(sorted(unknown))}: there are {', '.join(sizes)}")
    for name in only:
        weights = learn(args, args.output / name, sizes[name]["widened"], sizes[name]["set"])
        score(args, args.output / name, [*weights, *sizes[name]["set"]])
        done = {n: args.output / n for n in only if (args.output / n / "scores.json").is_file()}
        with atomic(args.output / "table.md") as temporary:
            temporary.write_text(table(done, {n: sizes[n]["widened"] for n in done}))
    print((args.output / "table.md").read_text())


def learn(args: argparse.Namespace, folder: Path, widened: bool, pairs: list[str]) -> list[str]:
    """Train a codec and a denoiser with its image prompt; return the options that name their weights."""
    codec, start = folder / "codec/weights/vae.safetensors", folder / "start.safetensors"
    joint = folder / "joint/weights"
    fit, quiet = [sys.executable, "-m", "ipfvr.fit", "--config"], "train.wandb=disabled"
    if not codec.is_file():
        own = [pair for pair in pairs if pair.startswith("vae.")]
        data = where(CODEC, args.root, None)
        run([*fit, str(HERE / CODEC.config), *data, quiet, f"train.output={folder / 'codec'}", *own])
    if widened and not start.is_file():
        first = {"--start-vae": "vae/weights/vae", "--start": "base_clips/weights/denoiser"}
        given = [w for option, file in first.items() for w in (option, f"{args.made / file}.safetensors")]
        run([sys.executable, str(HERE / "widen.py"), "--vae", str(codec), *given, "--output", str(start), *pairs])
    if not (folder / "joint/finished.txt").is_file():
        length = [f"train.minutes={args.minutes}", "optimizer.steps=1000000", "optimizer.warmup=20"]
        begin = [f"weights.vae={codec}", f"weights.denoiser={start if widened else ''}", "train.validate_every=1000000"]
        logs = [quiet, f"train.output={folder / 'joint'}", "train.log_every=1"]
        options = [*where(JOINT, args.root, None), *paced(JOINT, 1.0), *length, *begin, *logs, *WITHOUT, *pairs]
        run([*fit, str(HERE / JOINT.config), *options])
        (folder / "joint/finished.txt").write_text(f"{args.minutes} minutes\n")
    made = {"vae": codec, "denoiser": joint / "denoiser.safetensors", "adapter": joint / "adapter.safetensors"}
    return [f"weights.{kind}={file}" for kind, file in made.items()]


def score(args: argparse.Namespace, folder: Path, pairs: list[str]) -> None:
    """Write ``scores.json`` of a size."""
    if not (folder / "scores.json").is_file():
        people = ["--people", str(HERE / "validation.yaml"), "--pictures", str(args.pictures)]
        run([sys.executable, str(SCORER), "--root", str(args.root), "--output", str(folder), *people, *pairs])


def table(folders: dict[str, Path], widened: dict[str, bool]) -> str:
    """Markdown: means over people with 95 % intervals, and differences of the same pictures.

    Args:
        folders: of each size.
        widened: whether a size began from the denoiser of 128 pixels. It is compared with the first that began alike.
    """
    found = {n: json.loads((f / "scores.json").read_text())["scores"]["pictures"] for n, f in folders.items()}
    lines = [f"| | frames seen | {' | '.join(f'{heading} | 95 %' for heading, *_ in SHOWN)} |"]
    lines.append("|---" * (2 + 2 * len(SHOWN)) + "|")
    for name, folder in folders.items():
        lines.append(f"| {name} | {frames_seen(folder / 'joint'):,} | {' | '.join(cells(found[name]))} |")
    for name in folders:
        first = next(other for other in folders if widened[other] == widened[name])
        if first != name:
            lines.append(f"| {name} - {first} | | {' | '.join(cells(found[name], found[first]))} |")
    return "\n".join(lines) + "\n"


def cells(people: dict[str, list[dict]], others: dict[str, list[dict]] | None = None) -> list[str]:
    """A row's cells, of the scores of people's pictures; less those of the same pictures by another size."""
    from common import Scores, difference, mean_and_interval

    def value(clip: Scores, metric: str, row: str, minus: str) -> float | None:
        return difference(clip[row][metric], clip[minus][metric] if minus else 0)

    texts = []
    for _, metric, row, minus, digits in SHOWN:
        numbers = []
        for person, clips in people.items():
            for index, clip in enumerate(clips):
                other = value(others[person][index], metric, row, minus) if others else 0
                numbers.append((person, difference(value(clip, metric, row, minus), other)))
        texts.append(mean_and_interval(numbers, digits))
    return texts


def frames_seen(folder: Path) -> int:
    """How many frames a training has seen: batches of pictures and of clips are of one size."""
    steps = 0
    for file in folder.glob("log/from_*/metrics.csv"):
        with file.open() as lines:
            steps = max([steps, *(int(row["step"]) + 1 for row in csv.DictReader(lines))])
    return steps * load_config(HERE / JOINT.config, paced(JOINT, 1.0)).data.batch_size


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
