"""Measure the effect of a reference: mini with the right person's picture, with none, with another person's.

    python experiments/quality/references.py --root data/mini --output runs/references

ROOT is the layout that ``experiments/mini/prepare.py`` makes; only people whom no training has seen and on whom no
setting was chosen are used. Every person's pictures (each a clip of one frame, its reference another picture of the
person) and first clip (``--frames`` frames, its references all the person's pictures) are degraded by Eq. 13 and
restored three times; the words are the default's each time, so that Eq. 4 alone makes the difference. IDS is to the
truth, by ``weights.recogniser``, which must have had no part in the adapter. ``none`` is what restore does without a
reference, ``base`` the denoiser by itself, without an adapter. PSNR and NIQE stand beside it. Writes ``table.md``,
``scores.json`` and pictures. To choose options, on people who are not reported on:

    python experiments/quality/references.py --root data/mini \\
        --people experiments/mini/validation.yaml sampler.steps=4
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Scores, chosen_people, degraded, scores_table, shrink
from tqdm import tqdm

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic, write_json
from ipfvr.core.options import Config
from ipfvr.core.pixels import resize_frames
from ipfvr.core.provenance import provenance
from ipfvr.data.layout import CLIPS, PICTURES, list_files
from ipfvr.metrics.evaluation import Scorer, evaluate_clip, make_scorer
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.reader import read_frames, read_image
from ipfvr.video.strips import strip
from ipfvr.video.writer import write_picture

ROWS = ("bicubic", "base", "wrong", "none", "right")
PAIRS = (("right", "none"), ("none", "wrong"), ("right", "wrong"), ("right", "base"), ("right", "bicubic"))
METRICS = ("ids_gt", "psnr", "niqe")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/references"))
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    parser.add_argument("--pictures", type=int, default=6, help="of each person, at most")
    parser.add_argument("--people", type=Path, help="a YAML file that lists them; without it: the test people")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    config = load_config(None, args.overrides)
    if not config.weights.adapter:
        raise UserError("weights.adapter is empty: without an adapter a reference changes nothing")
    people = chosen_people(args.root, args.people)
    shown = {p.name: _references([p], config.video.size) for p in people}
    restorer, scorer = Restorer(config), make_scorer(config, aligned=True, metrics=METRICS)
    if scorer.recogniser is None:
        raise UserError(scorer.missing["recogniser"])
    found: dict[str, dict[str, list[Scores]]] = {"pictures": {}, "clips": {}}
    for number, person in enumerate(tqdm(people, leave=False)):
        own, other = shown[person.name], _stranger(people, shown, number)
        if len(own) > 1:
            for index in range(min(args.pictures, len(own))):
                references = {"right": own[index - 1][None], "wrong": other[:1]}
                row, frames = _compare(own[index][None], references, restorer, scorer, config, 100 * number + index)
                found["pictures"].setdefault(person.name, []).append(row)
                if index == 0:
                    _draw(args.output / "pictures" / f"{person.name}.png", frames, references)
        for file in list_files([person], "train", CLIPS)[:1] if len(own) else []:
            sharp = shrink(read_frames(file, 0, args.frames), config.video.size)
            references = {"right": own[:4], "wrong": other[:4]}
            row, frames = _compare(sharp, references, restorer, scorer, config, number)
            found["clips"].setdefault(person.name, []).append(row)
            _draw(args.output / "clips" / f"{file.stem}.png", frames, references)
    tables = {kind: scores_table(rows, ROWS, PAIRS, METRICS) for kind, rows in found.items() if rows}
    text = "\n\n".join(f"{kind}, {config.degradation.level}\n\n{table}" for kind, table in tables.items())
    judge = scorer.recogniser
    text += f"\n\nIDS to the truth by {judge.name} (sha256 {judge.sha256}).\n"
    with atomic(args.output / "table.md") as temporary:
        temporary.write_text(text)
    record = {
        "scores": found,
        **provenance(config, config.seed, {**restorer.networks.files, **scorer.weights}, str(restorer.networks.device)),
    }
    write_json(args.output / "scores.json", record)
    print(text)


def _compare(
    sharp: np.ndarray,
    references: dict[str, np.ndarray],
    restorer: Restorer,
    scorer: Scorer,
    config: Config,
    seed: int,
) -> tuple[Scores, dict[str, np.ndarray]]:
    """Scores of each row, and the frames behind it."""
    size, low = config.video.size, degraded(sharp, config, seed)
    frames = {"bicubic": resize_frames(low, size)}
    for name in ("base", "wrong", "none", "right"):
        conditions = restorer.conditions(references.get(name, ()))
        if name == "base":
            conditions = replace(conditions, image_tokens=None)
        frames[name] = restorer.restore(low, conditions)
    scores = {row: evaluate_clip(f, sharp, None, scorer).scores for row, f in frames.items()}
    return scores, frames | {"truth": sharp}


def _references(person: list[Path], size: int) -> np.ndarray:
    pictures = [read_image(file)[None] for file in list_files(person, "reference", PICTURES)]
    return np.concatenate([np.zeros((0, size, size, 3), np.uint8), *(shrink(p, size) for p in pictures)])


def _stranger(people: list[Path], shown: dict[str, np.ndarray], number: int) -> np.ndarray:
    """The pictures of the next person who has some."""
    order = [people[(number + k) % len(people)].name for k in range(1, len(people))]
    return next(shown[name] for name in order if len(shown[name]))


def _draw(file: Path, frames: dict[str, np.ndarray], references: dict[str, np.ndarray]) -> None:
    count = len(frames["truth"])
    chosen = np.linspace(0, count - 1, min(count, 3)).astype(int).tolist()
    pictures: dict[str, Any] = {f"reference {n}": np.repeat(r[:1], count, 0) for n, r in references.items()}
    write_picture(file, strip({**pictures, **frames}, chosen, 192))


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    raise SystemExit(run_verb(main))
