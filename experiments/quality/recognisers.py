"""Compare recognisers: sharp references against other pictures, undegraded, light and heavy.

    python experiments/quality/recognisers.py --source /path/to/data

The source holds ``images/<set>/<person>/*``, aligned pictures. Of each person with two pictures or more some are
taken; each is a reference as it is, and at mini's size, as it is and degraded (Eq. 13), a face that is looked for.
Prints, for each bound, the share of pairs of one person below it and of pairs of two people above it: for people whom
mini was trained on, on whom bounds are chosen, and for those held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from common import HELDOUT, degraded
from tqdm import tqdm

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.data.layout import PICTURES, read_identities
from ipfvr.faces.align import face_template
from ipfvr.faces.recognise import embed_faces, load_recogniser
from ipfvr.video.reader import read_image
from ipfvr.weights.catalogue import LIKENESS

LEVELS = ("undegraded", "light", "heavy")
APART = "london512"  # a set by itself: one sitting, neutral and smiling


class Look(NamedTuple):
    """One picture's vectors: as a reference, and as a face of each level."""

    person: str
    group: str
    reference: np.ndarray
    faces: dict[str, np.ndarray]


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["celeba256", "celebref512", APART])
    parser.add_argument("--pictures", type=int, default=4, help="of each person, at most")
    parser.add_argument("--recognisers", nargs="+", default=["mobilefacenet", "mini/recogniser", "mini/dlib"])
    args = parser.parse_args(argv)
    held = read_identities(HELDOUT, "the list of people held out")
    people = [p for s in args.sets for p in sorted((args.source / "images" / s).glob("*")) if p.is_dir()]
    if not people:
        raise UserError(f"no people in {args.source}/images/<set>/ of the sets {', '.join(args.sets)}")
    print("| recogniser, bound | people | " + " | ".join(LEVELS) + " |\n|---|---|---|---|---|")
    for name in args.recognisers:
        looks = look(people, args.pictures, name, held)
        for group in ("trained on", "held out", APART):
            chosen = [one for one in looks if one.group == group]
            bound = LIKENESS[name].same
            shares = [" / ".join(f"{share:.1%}" for share in wrong(chosen, level, bound)) for level in LEVELS]
            print(f"| {name} {bound:g} | {len({one.person for one in chosen})} {group} | {' | '.join(shares)} |")
        chosen = [one for one in looks if one.group == "trained on"]
        best = min(np.arange(0.1, 0.95, 0.005), key=lambda b: sum(sum(wrong(chosen, level, b)) for level in LEVELS))
        print(f"{name}: least wrong in all at {best:.3f} on those trained on", flush=True)


def look(people: list[Path], count: int, name: str, held: set[str]) -> list[Look]:
    """Vectors of everybody's pictures by one recogniser; the same pictures and degradations for each."""
    recogniser, size = load_recogniser(name), load_config(None, []).video.size
    levels = {level: load_config(None, [f"degradation.level={level}"]) for level in LEVELS[1:]}

    def vector(picture: np.ndarray) -> np.ndarray:
        points = face_template(len(picture))[None]
        return embed_faces(picture[None], points, recogniser)[0].numpy()

    found = []
    for number, person in enumerate(tqdm(people, desc=name, leave=False)):
        files = sorted(f for f in person.iterdir() if f.suffix.lower() in PICTURES)
        if len(files) < 2:
            continue
        group = APART if person.parent.name == APART else "held out" if person.name in held else "trained on"
        for index in np.unique(np.linspace(0, len(files) - 1, count).astype(int)):
            sharp = read_image(files[index])
            small = cv2.resize(sharp, (size, size), interpolation=cv2.INTER_AREA)
            seed = 10 * number + int(index)
            lows = {level: degraded(small[None], config, seed)[0] for level, config in levels.items()}
            faces = {level: vector(face) for level, face in {"undegraded": small, **lows}.items()}
            found.append(Look(person.name, group, vector(sharp), faces))
    return found


def wrong(looks: list[Look], level: str, bound: float) -> tuple[float, float]:
    """Share of pairs of one person (two pictures) below a bound, and of pairs of two people at or above it."""
    cosines = np.stack([one.reference for one in looks]) @ np.stack([one.faces[level] for one in looks]).T
    names = np.array([one.person for one in looks])
    same = names[:, None] == names
    return (
        float((cosines[same & ~np.eye(len(names), dtype=bool)] < bound).mean()),
        float((cosines[~same] >= bound).mean()),
    )


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    raise SystemExit(run_verb(main))
