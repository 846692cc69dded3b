"""LoRA per person without and with the reward, on scenes that were not trained on.

    python benchmarks/lora_people.py --source ../shared/data --output runs/lora_people
    python benchmarks/lora_people.py --source ../shared/data --people id13 --variants without with literal
    python benchmarks/lora_people.py --source ../shared/data --variants detach_0 literal_0 optimizer.steps=50
    python benchmarks/lora_people.py --source ../shared/data --windows 8 weights.adapter=

SOURCE holds ``clips/<id>/*.mp4`` (raw videos) and ``references/<id>/*``. Each person's LoRA is trained by
``experiments/lora.yaml``; windows of the test scenes, spread over them, are degraded by Eq. 13 at ``--level`` and
restored by the base and by each LoRA, with the same noise. IDS is by ``weights.recogniser``, which has no part in the
reward; sigma_IDS and drift (first third minus last third) are of the IDS to the truth. A LoRA that is there already is
not trained again. Writes ``scores.json``, ``table.md`` and a strip a person.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipfvr.config import load_config
from ipfvr.data.scenes import Person, SceneDataset
from ipfvr.errors import UserError, run_verb
from ipfvr.faces.recognise import Recogniser, embed_faces, load_recogniser
from ipfvr.files import atomic, write_json
from ipfvr.fit import fit
from ipfvr.metrics.fidelity import psnr
from ipfvr.metrics.identity import identity_deviation, identity_drift, identity_similarity
from ipfvr.options import Config
from ipfvr.pixels import resize, to_frames, to_tensor
from ipfvr.provenance import provenance
from ipfvr.report.pictures import strip
from ipfvr.restoration import Restorer
from ipfvr.training.lora import checked_person, speaking_of
from ipfvr.video.writer import write_picture

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
# Person: scenes to train on, scenes to test on, references; none of them is cut from a test scene.
PEOPLE = {
    "id13": (["c01", "c03"], ["c04"], ["photo01", "photo02"]),  # three scenes; separate photos
    "id14": (["c01", "c02"], ["c03"], ["c01_f0270", "c02_f0297"]),  # two scenes
    "id11": (["c01", "c03", "c04", "c05"], ["c02"], ["c03_f0082", "c05_f0080"]),  # takes of one session
    "id12": (["c01", "c02", "c03", "c04"], ["c05", "c06"], ["c01_f0084", "c02_f0094"]),  # takes of one session
    "id16": (["c01"], ["c02"], ["c01_f0190"]),  # two clips of one broadcast
}
VARIANTS = {
    "without": ["loss.reward=0"],
    "with": [],
    "literal": ["reward.statistics=literal"],
    "detach_0": ["reward.gamma=0"],
    "literal_0": ["reward.statistics=literal", "reward.gamma=0"],
}
METRICS = {
    "ids_gt": "IDS to truth",
    "ids_ref": "IDS to reference",
    "sigma": "sigma_IDS x 1e-2",
    "drift": "drift x 1e-2",
}
METRICS |= {"abs_drift": "drift either way x 1e-2", "psnr": "PSNR"}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/lora_people"))
    parser.add_argument("--people", nargs="+", default=list(PEOPLE))
    parser.add_argument("--variants", nargs="+", default=["without", "with"])
    parser.add_argument("--windows", type=int, default=4, help="clips of each test scene")
    parser.add_argument("--level", default="heavy")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    lists = (args.people, args.variants)
    # A list option takes all that follows it, the configuration's pairs too.
    pairs = [*args.overrides, *(name for names in lists for name in names if "=" in name)]
    people, variants = ([name for name in names if "=" not in name] for names in lists)
    for names, known in ((people, PEOPLE), (variants, VARIANTS)):
        if wrong := set(names) - set(known):
            raise UserError(f"{', '.join(sorted(wrong))} is not known: choose from {', '.join(known)}")
    scores: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in people:
        lay_out(args.source, args.output / "data", name)
        config = configured(name, args.output, "base", pairs)
        person, judge = checked_person(config), load_recogniser(config.weights.recogniser)
        folders = {}
        for variant in variants:
            folders[variant] = args.output / variant / name / "weights"
            if not (folders[variant] / "card.json").is_file():
                fit(configured(name, args.output, variant, pairs))
        spoken, _ = speaking_of(config, person)
        clips = windows(person, spoken, args.windows, args.level)
        frames = {"low quality": [to_frames(resize(c["low"], config.video.size)) for c in clips]}
        for variant, folder in {"before": None, **folders}.items():
            frames[variant] = restored(spoken, person, folder, clips)
        scores[name] = {
            row: [score(f, c, person, judge) for f, c in zip(fs, clips, strict=True)] for row, fs in frames.items()
        }
        shown = {row: fs[0] for row, fs in frames.items()} | {"truth": to_frames(clips[0]["pixels"])}
        indices = np.linspace(0, len(shown["truth"]) - 1, 6).astype(int).tolist()
        write_picture(args.output / f"{name}.png", strip(shown, indices, 128))
        text = table(scores) + f"\nIDS by {judge.name} (sha256 {judge.sha256}); reward by {config.reward.recogniser}.\n"
        with atomic(args.output / "table.md") as temporary:
            temporary.write_text(text)
        record = {"scores": scores, "level": args.level, **provenance(config, config.seed, {"judge": judge.path})}
        write_json(args.output / "scores.json", record)
        print(text, flush=True)


def lay_out(source: Path, root: Path, name: str) -> None:
    """ROOT/<name>/{reference,train,test} as links to the source's files."""
    train, test, references = PEOPLE[name]
    wanted = {f"train/{name}_{clip}.mp4": f"clips/{name}/{name}_{clip}.mp4" for clip in train}
    wanted |= {f"test/{name}_{clip}.mp4": f"clips/{name}/{name}_{clip}.mp4" for clip in test}
    for reference in references:
        found = sorted((source / "references" / name).glob(f"{name}_{reference}.*"))
        if not found:
            raise UserError(f"no {name}_{reference} in {source / 'references' / name}")
        wanted[f"reference/{found[0].name}"] = f"references/{name}/{found[0].name}"
    for link, file in wanted.items():
        if not (source / file).is_file():
            raise UserError(f"no {source / file}: --source must hold clips/ and references/")
        path = root / name / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to((source / file).resolve())


def configured(name: str, output: Path, variant: str, pairs: Sequence[str]) -> Config:
    """``experiments/lora.yaml`` for a person, with what the command line says; what makes the variant rules."""
    folders = [f"data.root={output / 'data'}", f"data.identity={name}", f"train.output={output / variant / name}"]
    return load_config(EXPERIMENTS / "lora.yaml", [*folders, *pairs, *VARIANTS.get(variant, [])])


def windows(person: Person, config: Config, count: int, level: str) -> list[dict[str, Any]]:
    """Clips spread over the test scenes, degraded with a seed of their own each."""
    data, clips = SceneDataset(person.test, person.identity, config), []
    for index, scene in enumerate(person.test):
        starts = scene.starts(config.video.clip_frames)
        for start in starts[np.unique(np.linspace(0, len(starts) - 1, count).astype(int))]:
            rng = np.random.default_rng([config.seed, index, int(start)])
            clips.append(data.window(index, int(start), level, rng, augment=False) | {"start": int(start)})
    return clips


def restored(config: Config, person: Person, folder: Path | None, clips: list[dict[str, Any]]) -> list[np.ndarray]:
    """The clips, restored by the base (``folder`` None) or with a LoRA."""
    if folder is not None:
        config = replace(config, weights=replace(config.weights, lora=str(folder)))
    restorer = Restorer(config)
    restorer.show_references([r.face for r in person.references])
    return [restorer.restore_clip(to_frames(c["low"]), range(c["start"], c["start"] + len(c["low"]))) for c in clips]


def score(frames: np.ndarray, clip: dict[str, Any], person: Person, judge: Recogniser) -> dict[str, float]:
    """:data:`METRICS` of one clip."""
    landmarks = clip["landmarks"].numpy()
    found = embed_faces(frames, landmarks, judge)
    truth = identity_similarity(found, embed_faces(to_frames(clip["pixels"]), landmarks, judge))
    drift = 100 * identity_drift(truth)
    values: dict[str, Tensor] = {
        "ids_gt": truth.mean(),
        "ids_ref": identity_similarity(found, person.embedding(judge)).mean(),
        "sigma": identity_deviation(torch.tensor(len(truth)), truth.sum(), truth.square().sum()),
        "drift": drift,
        "abs_drift": drift.abs(),
        "psnr": psnr(to_tensor(frames) / 2 + 0.5, clip["pixels"] / 2 + 0.5).mean(),
    }
    return {name: float(value) for name, value in values.items()}


def table(scores: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """A line a person and variant: means over clips; then means over people."""
    lines = ["| person | | clips | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 3) + "|"]
    means: dict[str, list[list[float]]] = {}
    for name, rows in scores.items():
        for row, clips in rows.items():
            values = [float(np.mean([clip[key] for clip in clips])) for key in METRICS]
            means.setdefault(row, []).append(values)
            lines.append(f"| {name} | {row} | {len(clips)} | " + " | ".join(f"{v:.3f}" for v in values) + " |")
    for row, values in means.items():
        cells = " | ".join(f"{v:.3f}" for v in np.mean(values, axis=0))
        lines.append(f"| mean of {len(values)} | {row} | | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    raise SystemExit(run_verb(main))
