"""Measure what ``restore`` learns: mini without a reference, with it, and with a LoRA learned from pictures alone.

    python experiments/quality/learned.py --root data/mini --pictures 1 --output runs/learned

ROOT is the layout that ``experiments/mini/prepare.py`` makes. Of each of the test people, whom no training has
seen and no setting was chosen on, the largest ``--pictures`` pictures are learnt from; the first ``--frames`` frames of
clips that no learnt picture is cut from, of people without such clips other pictures, are degraded by Eq. 13 and
restored. ``stranger`` is restored as if the next person's pictures were this one's. Numbers are those of
``python -m ipfvr.evaluate``; IDS is to the truth by ``weights.recogniser``, which has no part in what is learnt. Writes
``table.md``, ``scores.json`` and pictures. To choose settings, on people who are not reported on:

    python experiments/quality/learned.py --root data/mini \\
        --people experiments/mini/validation.yaml learn.steps=50
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import Scores, chosen_people, degraded, scores_table, shrink
from tqdm import tqdm

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic, write_json
from ipfvr.core.pixels import resize_frames
from ipfvr.core.provenance import provenance
from ipfvr.data.faces import picture_side
from ipfvr.data.layout import CLIPS, PICTURES, list_files
from ipfvr.metrics.evaluation import evaluate_clip, make_scorer
from ipfvr.restoration.restorer import Restorer
from ipfvr.training.pictures import learned_lora
from ipfvr.video.reader import read_frames, read_image
from ipfvr.video.strips import strip
from ipfvr.video.writer import write_picture

ROWS = ("bicubic", "stranger", "none", "right", "learned")
PAIRS = (
    ("right", "none"),
    ("learned", "none"),
    ("learned", "right"),
    ("learned", "bicubic"),
    ("none", "stranger"),
    ("none", "bicubic"),
)
METRICS = ("ids_gt", "psnr", "niqe", "sigma_ids_gt", "e_warp_gt")  # a single picture has none of the last two


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--people", type=Path, help="a YAML file that lists them; without it: the test people")
    parser.add_argument("--output", type=Path, default=Path("runs/learned"))
    parser.add_argument("--pictures", type=int, default=1, help="of each person, to learn from")
    parser.add_argument("--tests", type=int, default=4, help="other pictures of each person, at most")
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    parser.add_argument("--undegraded", action="store_true", help="restore the tests as they are")
    parser.add_argument("--limit", type=int, default=0, help="so many people, spread over the list; 0: everybody")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    config = load_config(None, args.overrides)
    people = chosen_people(args.root, args.people)
    people = [p for p in people if len(_pictures(p)) + len(list_files([p], "train", CLIPS)) > args.pictures]
    if not people:
        raise UserError(f"nobody in {args.root} has more than {args.pictures} pictures and clips: give another --root")
    if args.limit:
        people = [people[i] for i in np.unique(np.linspace(0, len(people) - 1, args.limit).astype(int))]
    scorer, base = make_scorer(config, aligned=True, metrics=METRICS), Restorer(config)
    if scorer.recogniser is None:
        raise UserError(scorer.missing["recogniser"])
    found: dict[str, list[Scores]] = {}
    seconds: dict[str, float] = {}
    shown = {person: _pictures(person)[: args.pictures] for person in people}
    tested = {p: _tests(p, learnt, args.tests, args.frames, config.video.size) for p, learnt in shown.items()}
    people = [person for person in people if shown[person] and tested[person]]

    def learned(person: Path) -> tuple[Restorer, list[np.ndarray]]:
        began = time.monotonic()
        lora = learned_lora(config, person.name, shown[person])
        seconds.setdefault(person.name, time.monotonic() - began)
        references = [shrink(read_image(path)[None], config.video.size)[0] for path in shown[person]]
        return Restorer(replace(config, weights=replace(config.weights, lora=str(lora)))), references

    own = learned(people[0])
    for person, next_person in zip(tqdm(people, leave=False), [*people[1:], people[0]], strict=True):
        stranger = learned(next_person)
        for number, (name, sharp) in enumerate(tested[person].items()):
            low = sharp if args.undegraded else degraded(sharp, config, number)
            frames = _versions(low, base, own, stranger)
            scores = {row: evaluate_clip(f, sharp, None, scorer).scores for row, f in frames.items()}
            found.setdefault(person.name, []).append(scores)
            write_picture(args.output / f"{name}.png", _strip(frames | {"truth": sharp}, own[1]))
        means = {row: round(float(np.mean([s[row]["ids_gt"] for s in found[person.name]])), 3) for row in ROWS}
        tqdm.write(f"{person.name}: {len(tested[person])} tests, IDS {means}, {seconds[person.name]:.0f} s")
        own = stranger
    judge = scorer.recogniser
    text = f"learnt from {args.pictures} in {np.mean([*seconds.values()]):.0f} s each\n\n"
    text += scores_table(found, ROWS, PAIRS, METRICS)
    text += f"\n\nIDS to the truth by {judge.name} (sha256 {judge.sha256}).\n"
    with atomic(args.output / "table.md") as temporary:
        temporary.write_text(text)
    files = {**base.networks.files, **scorer.weights}
    made_with = provenance(config, config.seed, files, str(base.networks.device))
    record = {"scores": found, "seconds": seconds, **made_with}
    write_json(args.output / "scores.json", record)
    print(text)


def _pictures(person: Path) -> list[Path]:
    """The largest first."""
    return sorted(list_files([person], "reference", PICTURES), key=lambda file: (-picture_side(file), file.name))


def _tests(person: Path, learnt: list[Path], pictures: int, frames: int, size: int) -> dict[str, np.ndarray]:
    """Sharp clips, by name: other pictures, and clips that nothing learnt is cut from."""
    cut = {path.stem.rpartition("_f")[0] for path in learnt}  # a picture cut from a clip is called <clip>_f<frame>
    clips = [file for file in list_files([person], "train", CLIPS) if file.stem not in cut]
    tests = {file.stem: shrink(read_frames(file, 0, frames), size) for file in clips}
    others = [] if clips else [file for file in _pictures(person) if file not in learnt][:pictures]
    return tests | {file.stem: shrink(read_image(file)[None], size) for file in others}


def _versions(
    low: np.ndarray,
    base: Restorer,
    own: tuple[Restorer, list[np.ndarray]],
    stranger: tuple[Restorer, list[np.ndarray]],
) -> dict[str, np.ndarray]:
    """Frames of each row; ``own`` and ``stranger`` are what was learned, and the pictures."""
    restored = {
        "stranger": stranger,
        "none": (base, []),
        "right": (base, own[1]),
        "learned": own,
    }
    versions = {row: restorer.restore(low, restorer.conditions(shown)) for row, (restorer, shown) in restored.items()}
    return {"bicubic": resize_frames(low, base.config.video.size), **versions}


def _strip(frames: dict[str, np.ndarray], references: list[np.ndarray]) -> np.ndarray:
    count = len(frames["truth"])
    chosen = np.linspace(0, count - 1, min(count, 3)).astype(int).tolist()
    return strip({"learnt from": np.repeat(references[0][None], count, 0), **frames}, chosen, 256)


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    raise SystemExit(run_verb(main))
