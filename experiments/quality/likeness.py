"""Calibrate people.same: the cosines of degraded faces to references of the same and of other people.

    python experiments/quality/likeness.py --source /path/to/data --output runs/likeness
    python experiments/quality/likeness.py --source /path/to/data --levels heavy severe --recognisers mobilefacenet

The source holds ``clips/<person>/*.mp4`` and ``references/<person>/*``. The first frames of every clip are taken as
they are (``undegraded``), or degraded by Eq. 13 with the face 128 pixels wide before and 64 after; the face is found in
them, as in a film, and the mean cosine of its frames to every person's references is a pair, of one person or of two.
Printed and written: how many right and wrong references the recogniser's own bound accepts, quantiles of both kinds,
and the share of each that is on the wrong side of some bounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import degraded

from ipfvr.core.arguments import parse_lists
from ipfvr.core.config import load_config
from ipfvr.core.files import write_json
from ipfvr.core.options import PeopleConfig
from ipfvr.core.provenance import provenance
from ipfvr.data.layout import PICTURES
from ipfvr.faces.align import crop, crop_matrix
from ipfvr.faces.detect import make_detector
from ipfvr.faces.people import face_vector, person_vector, with_bounds
from ipfvr.faces.recognise import load_recogniser
from ipfvr.video.reader import VideoReader

MARGIN = 0.25  # of the square, left on every side, so that the face has to be found
UNDEGRADED = "undegraded"
EVERY = 4  # one frame in so many makes a vector
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BOUNDS = [*np.arange(0.1, 0.8, 0.025), *np.arange(0.8, 0.98, 0.01)]  # dlib's cosines all lie high


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/likeness"))
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    parser.add_argument("--levels", nargs="+", default=[UNDEGRADED, "light", "heavy"])
    parser.add_argument("--recognisers", nargs="+", default=["mobilefacenet", "mini/recogniser", "mini/dlib"])
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parse_lists(parser, argv, "levels", "recognisers")
    config = load_config(None, args.overrides)
    detector, recognisers = make_detector(config.faces), {name: load_recogniser(name) for name in args.recognisers}
    people = sorted(p for p in (args.source / "references").iterdir() if p.is_dir())
    pictures = {p.name: sorted(f for f in p.iterdir() if f.suffix.lower() in PICTURES) for p in people}
    known = {
        name: {who: person_vector(files[:1], detector, net) for who, files in pictures.items()}
        for name, net in recognisers.items()
    }
    pairs: dict[str, dict[bool, list[float]]] = {}
    missed: dict[str, int] = dict.fromkeys(args.levels, 0)
    for clip in sorted((args.source / "clips").glob("*/*.mp4")):
        images = [frame.image for frame in VideoReader(clip).frames(0, args.frames)]
        sharp = squares(images, config.video.size, detector)
        for level in args.levels if sharp is not None else ():
            own = [*args.overrides, f"degradation.level={level}"]
            low = images if level == UNDEGRADED else degraded(sharp, load_config(None, own), config.seed)
            seen = [(image, faces[0]) for image in low[::EVERY] if (faces := detector.detect(image))]
            missed[level] += not seen
            for name, net in recognisers.items() if seen else ():
                vectors = np.stack([face_vector(image, face, net) for image, face in seen])
                for who, vector in known[name].items():
                    kinds = pairs.setdefault(f"{name}, {level}", {True: [], False: []})
                    kinds[who == clip.parent.name].append(float((vectors @ vector).mean()))
        print(clip.stem, "done" if sharp is not None else "has no face", flush=True)
    for name, vectors in known.items():
        matrix = np.stack(list(vectors.values()))
        cosines = (matrix @ matrix.T)[np.triu_indices(len(matrix), 1)]
        print(f"{name}: references of two people, highest cosine {cosines.max():.2f}")
    table = f"{accepted(pairs)}\n{describe(pairs)}"
    print(table)
    print(f"clips whose degraded face was not found: {missed}")
    write_json(args.output / "likeness.json", {"pairs": pairs, "missed": missed, **provenance(config, config.seed, {})})
    (args.output / "likeness.md").write_text(table)
    return 0


def squares(images: list[np.ndarray], size: int, detector: object) -> np.ndarray | None:
    """Frames about the largest face of the first, as it lies there: (F, side, side, 3); None: no face."""
    found = detector.detect(images[0])
    if not found:
        return None
    matrix, side = crop_matrix(found[0].landmarks, size), round(size * (1 + 2 * MARGIN)) // 8 * 8
    matrix[:, 2] += (side - size) / 2
    return np.stack([crop(image, matrix, side) for image in images])


def accepted(pairs: dict[str, dict[bool, list[float]]]) -> str:
    """Markdown: how many right and how many wrong references the recogniser's own bound accepts."""
    lines = [
        "| recogniser, level | bound | right references accepted | wrong references accepted |",
        "|---|---|---|---|",
    ]
    for name, kinds in pairs.items():
        bound = with_bounds(PeopleConfig(), name.split(",")[0]).same
        counts = [f"{sum(v >= bound for v in kinds[same])} of {len(kinds[same])}" for same in (True, False)]
        lines.append(f"| {name} | {bound:g} | {counts[0]} | {counts[1]} |")
    return "\n".join(lines) + "\n"


def describe(pairs: dict[str, dict[bool, list[float]]]) -> str:
    """Markdown: quantiles, and what is wrong at which bound."""
    lines = ["| recogniser, level | pairs | n | " + " | ".join(f"{q:.0%}" for q in QUANTILES) + " |"]
    lines.append("|---" * (len(QUANTILES) + 3) + "|")
    for name, kinds in pairs.items():
        for same, values in kinds.items():
            cells = " | ".join(f"{v:.2f}" for v in np.quantile(values, QUANTILES))
            lines.append(f"| {name} | {'one person' if same else 'two people'} | {len(values)} | {cells} |")
    lines += ["", "| bound | " + " | ".join(f"{name}: missed / taken for another" for name in pairs) + " |"]
    lines.append("|---" * (len(pairs) + 1) + "|")
    for bound in BOUNDS:
        shares = [
            f"{np.mean(np.array(kinds[True]) < bound):.1%} / {np.mean(np.array(kinds[False]) >= bound):.1%}"
            for kinds in pairs.values()
        ]
        lines.append(f"| {bound:.3f} | " + " | ".join(shares) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
