"""Measure the attribute network on people held out: each attribute against guessing the majority.

    python experiments/quality/attributes.py --root data/mini

ROOT is the layout that ``experiments/mini/prepare.py`` makes; the people and the tables of attributes are those of
``experiments/attributes.yaml``. The majority is the training pictures'. The page goes to ``--output``, scores and
provenance to ``--json``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ipfvr.conditioning.attribute_network import AttributeReader, load_attributes
from ipfvr.conditioning.attributes import WORDS
from ipfvr.conditioning.face2text import describe
from ipfvr.conditioning.words import compose
from ipfvr.core.config import load_config
from ipfvr.core.errors import run_verb
from ipfvr.core.files import atomic, write_json
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config
from ipfvr.core.provenance import provenance
from ipfvr.metrics.intervals import bootstrap_interval
from ipfvr.training.attributes import accuracy, balanced_accuracy, labelled_pictures
from ipfvr.video.reader import read_image

EXPERIMENT = Path(__file__).parents[1] / "attributes.yaml"
SHOWN = 5  # people described beside their true attributes


@dataclass
class Scores:
    """Of the pictures of the people held out; all (40,) in the order of ``WORDS``."""

    right: Tensor
    majority: Tensor
    balanced: Tensor
    present: Tensor
    by_person: list[float]  # what the network is better by, a person, in shares of the answers


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/attributes/attributes.md"))
    parser.add_argument("--json", type=Path, default=Path("runs/attributes/scores.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    config = load_config(EXPERIMENT, [f"data.root={args.root}", *args.overrides])
    reader = load_attributes(config.weights.attributes)
    pictures, labels, files = labelled_pictures(config, held=True)
    read = torch.tensor([list(reader.read([p.permute(1, 2, 0).numpy()]).values()) for p in pictures])
    scores = score(read, labels, reader.network.source, files)
    text = page(scores, reader, len(files)) + people(config, files, labels)
    with atomic(args.output) as temporary:
        temporary.write_text(text)
    content = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in scores.__dict__.items()}
    write_json(
        args.json,
        {"attributes": list(WORDS), **content, **provenance(config, config.seed, {"attributes": reader.path}, "cpu")},
    )
    print(text)


def score(read: Tensor, labels: Tensor, source: Tensor, files: list[Path]) -> Scores:
    """Compare probabilities (N, 40) with labels (N, 40) of 1 and -1.

    The balanced decision is 'more probable than among the training pictures': the odds in a domain where both
    classes are as frequent are above 1 exactly then.
    """
    said, guess = read > 0.5, (source > 0.5).expand_as(labels)
    better = ((said == (labels > 0)).float() - (guess == (labels > 0)).float()).mean(dim=1)
    names = np.array([file.parent.parent.name for file in files])
    by_person = [float(better[torch.from_numpy(names == name)].mean()) for name in sorted(set(names))]
    return Scores(
        accuracy(said, labels),
        accuracy(guess, labels),
        balanced_accuracy(read > source, labels),
        (labels > 0).float().mean(dim=0),
        by_person,
    )


def page(scores: Scores, reader: AttributeReader, count: int) -> str:
    """The table with its heading."""
    low, high = bootstrap_interval([[value] for value in scores.by_person])
    better = int((scores.right > scores.majority).sum())
    worse = [name for name, a, b in zip(WORDS, scores.right, scores.majority, strict=True) if a < b]
    seen = ~scores.balanced.isnan()
    lines = [
        "# Attributes of people held out",
        "",
        "Made by `python experiments/quality/attributes.py --root data/mini`; weights "
        f"`{reader.path.name}`, sha256 `{sha256(reader.path)[:16]}`.",
        "",
        f"{count} pictures of {len(scores.by_person)} people who took no part in the training. Mean over the 40 "
        f"attributes: accuracy {100 * scores.right.mean():.1f} %, always guessing the training's majority "
        f"{100 * scores.majority.mean():.1f} %; balanced accuracy {100 * scores.balanced[seen].mean():.1f} % "
        f"(guessing: 50 %). Mean over people of the difference in accuracy: "
        f"{100 * np.mean(scores.by_person):.1f} points, 95 % interval [{100 * low:.1f}, {100 * high:.1f}] "
        f"(bootstrap over people). Better than guessing on {better} of 40 attributes"
        + (f", worse on {', '.join(worse)}." if worse else "."),
        "",
        "Accuracy is at probability 0.5; the balanced accuracy is at the share among the training pictures.",
        "",
        "| attribute | in training % | held out % | majority % | accuracy % | difference | balanced accuracy % |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = zip(
        WORDS, reader.network.source, scores.present, scores.majority, scores.right, scores.balanced, strict=True
    )
    for name, share, present, guess, right, balanced in rows:
        cells = [share, present, guess, right]
        shown = " | ".join(f"{100 * float(v):.1f}" for v in cells)
        even = "never seen" if balanced.isnan() else f"{100 * float(balanced):.1f}"
        lines.append(f"| {name} | {shown} | {100 * float(right - guess):+.1f} | {even} |")
    return "\n".join(lines) + "\n"


def people(config: Config, files: list[Path], labels: Tensor) -> str:
    """The first picture of five people held out, described, with CelebA's annotation beside."""
    names = sorted({file.parent.parent.name for file in files})
    lines = ["", "## Five people described, and what CelebA's annotators said", ""]
    for name in names[:: -(-len(names) // SHOWN)]:
        index = next(i for i, file in enumerate(files) if file.parent.parent.name == name)
        description = describe([read_image(files[index])], config)
        prompts, truths = compose(description, config), description.truths(config.prompt)
        true = {n: bool(v > 0) for n, v in zip(WORDS, labels[index], strict=True)}
        right = sum((description.attributes[n] > 0.5) == true[n] for n in WORDS)
        wrong = [f"{n} ({description.attributes[n]:.2f})" for n, t in truths.items() if t != true[n]]
        lines += [
            f"### {name}/{files[index].name}: {right} of 40 right",
            "",
            f"- said: {prompts.positive}",
            f"- denied: {prompts.negative.removesuffix(config.prompt.negative).rstrip(', ')}",
            f"- true: {', '.join(n for n in WORDS if true[n])}",
            f"- sure but wrong: {', '.join(wrong) or 'none'}",
            f"- unsure: {', '.join(f'{n} ({description.attributes[n]:.2f})' for n in prompts.unsure) or 'none'}",
            *(f"- note: {note}" for note in prompts.notes),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
