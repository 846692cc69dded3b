"""Compare face detectors: faces found, faces invented, precision of the points, time.

    python experiments/quality/detectors.py --source /path/to/data --output runs/detectors
    python experiments/quality/detectors.py --source /path/to/data --step 32 --candidates centerface@320 mtcnn dlib-cnn

The source holds ``clips/<person>/*.mp4`` and, for the points, ``manifest.json`` with ``landmarks256``. A frame counts
where YuNet sees a face in it; found is what lies within a quarter of the face's width of YuNet's main face. Some of the
frames are turned about that face, too. What is made up is counted in the same frames with the faces painted over and in
scikit-image's pictures without faces. ``NAME@SIDE`` shrinks images to another side than faces.max_side.

The rows that are not of this project: cascade (OpenCV's, with the landmark network), mtcnn (``pip install --no-deps
facenet-pytorch``), dlib-hog and dlib-cnn (``pip install dlib-bin face-recognition-models``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from common import HELDOUT, degraded

from ipfvr.core.arguments import parse_lists
from ipfvr.core.config import load_config
from ipfvr.core.files import write_json
from ipfvr.core.options import FacesConfig
from ipfvr.core.provenance import provenance
from ipfvr.data.layout import read_identities
from ipfvr.faces.align import apply, crop, crop_matrix, invert
from ipfvr.faces.detect import Face, box_overlap, make_detector, shrink
from ipfvr.faces.landmarks import load_landmarks, patch_template
from ipfvr.training.landmarks import box_matrix, open_cascade, read_landmarks
from ipfvr.video.reader import VideoReader, read_image
from ipfvr.weights.registry import find, locate

NAMES = ("yunet", "centerface", "cascade", "mtcnn", "dlib-hog", "dlib-cnn")
ANGLES = (-35, -20, 20, 35)  # degrees
TURNED_EVERY = 4  # of the frames, one in so many is turned, and painted over
ASIDE = 0.15  # the nose lies so many eyes' distances beside their middle: a head that looks aside
NEAR = 1.0  # spreads of the landmarks (about a quarter of a face's width) that a found face may be off
OTHERS = (*(f"{angle:+d}" for angle in ANGLES), "small", "degraded")
SMALL, CANVAS = 8.0, (640, 360)  # the small face's spread (32 pixels from ear to ear) and the picture it is in
CROP, AROUND = 128, 192  # the crop of the degraded face, and the square about it that is degraded
FACELESS = ("brick", "clock", "coins", "grass", "gravel", "hubble_deep_field", "page", "rocket", "text")
FACELESS += ("chelsea", "coffee", "immunohistochemistry", "retina", "cell")
PICTURES = 150  # about so many with known landmarks, of people held out

# An image to the centres (K, 2) of its faces and, where the detector has them, their landmarks (K, 5, 2).
Find = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass
class Case:
    """A frame and where YuNet sees its main face.

    Attributes:
        clip: its clip's name.
        image: (H, W, 3) uint8 RGB.
        centre: (2,) mean of the landmarks, pixels.
        spread: root mean square distance of the landmarks to it.
        kind: upright, aside, an angle in degrees, small or degraded.
    """

    clip: str
    image: np.ndarray
    centre: np.ndarray
    spread: float
    kind: str


@dataclass
class Tally:
    """What a detector did."""

    hits: dict[str, list[bool]] = field(default_factory=dict)  # by kind
    clips: dict[str, list[bool]] = field(default_factory=dict)  # by clip
    alone: int = 0  # frames in which it finds a face and YuNet none
    made_up: list[int] = field(default_factory=list)  # faces in each picture without one
    seconds: list[float] = field(default_factory=list)  # of the processor, each frame as it is
    large_seconds: list[float] = field(default_factory=list)  # each picture of 640 x 360 with a small face
    errors: dict[str, list[float]] = field(default_factory=dict)  # shares of the eyes' distance, as found and refined


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/detectors"))
    parser.add_argument("--step", type=int, default=8, help="every so many frames of a clip")
    parser.add_argument("--candidates", nargs="+", default=["yunet", "centerface", "cascade"], help=", ".join(NAMES))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parse_lists(parser, argv, "candidates")
    config = load_config(None, args.overrides)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    finders = {name: make_finder(name, config.faces) for name in args.candidates}
    tallies = {name: Tally() for name in finders}
    truth = make_detector(replace(config.faces, detector="yunet"))
    eager = make_detector(replace(config.faces, detector="yunet", refine=False, min_confidence=0.3))
    faceless = [_rgb(getattr(skimage.data, name)()) for name in FACELESS]
    without, count = 0, 0
    for clip in sorted((args.source / "clips").glob("*/*.mp4")):
        for frame in VideoReader(clip):
            if frame.index % args.step:
                continue
            faces, count = truth.detect(frame.image), count + 1
            turned = count % TURNED_EVERY == 0
            if not faces:
                without += 1
                for name, find_faces in finders.items():
                    tallies[name].alone += bool(len(find_faces(frame.image)[0]))
                continue
            made = cases(clip.stem, frame.image, faces[0]) if turned else []
            for case in [as_it_is(clip.stem, frame.image, faces[0]), *made]:
                for name, find_faces in finders.items():
                    take(tallies[name], case, find_faces)
            if turned:
                painted = paint_over(frame.image, eager.detect(frame.image))
                for name, find_faces in finders.items():
                    tallies[name].made_up.append(len(find_faces(painted)[0]))
        print(
            clip.stem,
            {name: f"{np.mean(t.clips.get(clip.stem, [True])):.0%}" for name, t in tallies.items()},
            flush=True,
        )
    for name, find_faces in finders.items():
        tallies[name].made_up += [len(find_faces(image)[0]) for image in faceless]
        if (args.source / "manifest.json").is_file():
            tallies[name].errors = landmark_errors(args.source, find_faces)
    table = describe(tallies, count, without)
    print(table)
    content = {name: vars(tally) for name, tally in tallies.items()}
    write_json(args.output / "detectors.json", {"tallies": content, **provenance(config, config.seed, truth.weights)})
    (args.output / "detectors.md").write_text(table)
    return 0


def cases(clip: str, image: np.ndarray, face: Face) -> list[Case]:
    """A frame turned about its face's middle by each angle, its face small, and its face degraded."""
    points = face.landmarks.astype(float)
    centre, spread = points.mean(axis=0), spread_of(points)
    result = []
    for angle in ANGLES:
        matrix = cv2.getRotationMatrix2D(centre.tolist(), angle, 1)
        around = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        result.append(Case(clip, around, centre, spread, f"{angle:+d}"))
    small, ratio = (
        cv2.resize(image, None, fx=SMALL / spread, fy=SMALL / spread, interpolation=cv2.INTER_AREA),
        SMALL / spread,
    )
    right, bottom = (max(0, wanted - side) for wanted, side in zip(CANVAS, small.shape[1::-1], strict=True))
    small = cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    result.append(Case(clip, small, (centre + 0.5) * ratio - 0.5, SMALL, "small"))
    matrix = crop_matrix(points, CROP)
    matrix[:, 2] += (AROUND - CROP) / 2
    config = load_config(None, ["degradation.level=heavy"])
    low, half = (
        degraded(crop(image, matrix, AROUND)[None], config, len(clip) + round(spread))[0],
        1 / config.video.scale,
    )
    there = (apply(matrix, points) + 0.5) * half - 0.5
    result.append(Case(clip, low, there.mean(axis=0), spread_of(there), "degraded"))
    return result


def spread_of(points: np.ndarray) -> float:
    """Root mean square distance of points (5, 2) to their mean."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def as_it_is(clip: str, image: np.ndarray, face: Face) -> Case:
    """A frame, and whether its face looks aside."""
    points = face.landmarks.astype(float)
    eyes = points[1] - points[0]
    off = (points[2] - points[:2].mean(axis=0)) @ eyes / (eyes @ eyes)
    return Case(clip, image, points.mean(axis=0), spread_of(points), "aside" if abs(off) >= ASIDE else "upright")


def take(tally: Tally, case: Case, find_faces: Find) -> None:
    """One look of one detector."""
    began = time.process_time()
    centres, _ = find_faces(case.image)
    seconds = time.process_time() - began
    near = bool(len(centres)) and np.linalg.norm(centres - case.centre, axis=1).min() <= NEAR * case.spread
    tally.hits.setdefault(case.kind, []).append(bool(near))
    if case.kind in ("upright", "aside"):
        tally.clips.setdefault(case.clip, []).append(bool(near))
        tally.seconds.append(seconds)
    if case.kind == "small":
        tally.large_seconds.append(seconds)


def paint_over(image: np.ndarray, faces: list[Face]) -> np.ndarray:
    """A frame without its faces: the frame's mean colour over twice each box."""
    image, colour = image.copy(), image.reshape(-1, 3).mean(axis=0)
    for face in faces:
        (x, y), (w, h) = face.box[:2], face.box[2:]
        low = np.maximum([y - h / 2, x - w / 2], 0).astype(int)
        high = np.maximum([y + 1.5 * h, x + 1.5 * w], 0).astype(int)
        image[low[0] : high[0], low[1] : high[1]] = colour
    return image


def landmark_errors(root: Path, find_faces: Find) -> dict[str, list[float]]:
    """Mean distance of the five points to the known ones, as found and after a look of the landmark network."""
    network, out = load_landmarks(locate("mini/landmarks")), read_identities(HELDOUT, "data.heldout")
    known = [(file, points) for file, points in read_landmarks(root).items() if Path(file).parent.name in out]
    errors: dict[str, list[float]] = {"found": [], "refined": []}
    for file, points in known[:: max(1, len(known) // PICTURES)]:
        image = read_image(root / file)
        centres, landmarks = find_faces(image)
        if landmarks is None or not len(landmarks):
            continue
        best = landmarks[np.linalg.norm(centres - points.mean(axis=0), axis=1).argmin()]
        better, score = network.refine(image, best)
        apart = np.linalg.norm(points[1] - points[0])
        for name, guess in (("found", best), ("refined", better if score >= 0.5 else best)):
            errors[name].append(float(np.linalg.norm(guess - points, axis=1).mean() / apart))
    return errors


def make_finder(name: str, config: FacesConfig) -> Find:
    """A candidate by its name; the landmark network does not make its points more precise."""
    kind, _, side = name.partition("@")
    config = replace(config, max_side=int(side or config.max_side), refine=False)
    if kind in ("yunet", "centerface"):
        return _with_points(make_detector(replace(config, detector=kind)).detect)
    return {"cascade": _cascade, "mtcnn": _mtcnn, "dlib-hog": _dlib, "dlib-cnn": _dlib_cnn}[kind](config)


def _with_points(detect: Callable[[np.ndarray], list[Face]]) -> Find:
    def look(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = np.array([face.landmarks for face in detect(image)]).reshape(-1, 5, 2)
        return points.mean(axis=1), points

    return look


def _cascade(config: FacesConfig) -> Find:
    """Squares of OpenCV's frontal cascade in which the landmark network sees a face, twice."""
    cascade, network = open_cascade(), load_landmarks(locate("mini/landmarks"))

    def detect(image: np.ndarray) -> list[Face]:
        small, scale = shrink(image, config.max_side)
        least = max(24, max(small.shape) // 20)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        faces: list[Face] = []
        for square in cascade.detectMultiScale(grey, 1.15, 2, minSize=(least, least)):
            box = square / np.tile(scale, 2)
            points, first = network.refine(image, apply(invert(box_matrix(box)), patch_template()))
            points, second = network.refine(image, points) if first else (points, 0.0)
            new = all(box_overlap(box, face.box) < 0.3 for face in faces)
            if min(first, second) >= config.min_confidence and new:
                faces.append(Face(box, min(first, second), points))
        return faces

    return _with_points(detect)


def _mtcnn(config: FacesConfig) -> Find:
    from facenet_pytorch import MTCNN

    net = MTCNN(keep_all=True, min_face_size=24)

    def look(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        small, scale = shrink(image, config.max_side)
        _, scores, points = net.detect(small, landmarks=True)
        if points is None:
            return np.empty((0, 2)), np.empty((0, 5, 2))
        points = np.asarray(points, dtype=float)[np.asarray(scores, dtype=float) >= config.min_confidence] / scale
        return points.mean(axis=1), points

    return look


def _dlib(config: FacesConfig) -> Find:
    import dlib

    detector = dlib.get_frontal_face_detector()
    # Enlarged once: it finds faces of 40 pixels and more.
    return _of_rectangles(lambda small: list(detector(small, 1)), config)


def _dlib_cnn(config: FacesConfig) -> Find:
    import dlib

    detector = dlib.cnn_face_detection_model_v1(str(find_in_package("mmod_human_face_detector.dat")))
    least = config.min_confidence
    return _of_rectangles(lambda small: [m.rect for m in detector(small, 0) if m.confidence >= least], config)


def find_in_package(name: str) -> Path:
    """A file beside dlib's recogniser."""
    from ipfvr.weights.catalogue import ENTRIES

    path = find(ENTRIES["dlib"])
    return (path.parent if path is not None else Path()) / name


def _of_rectangles(detect: Callable[[np.ndarray], list], config: FacesConfig) -> Find:
    def look(image: np.ndarray) -> tuple[np.ndarray, None]:
        small, scale = shrink(image, config.max_side)
        centres = [((r.left() + r.right()) / 2, (r.top() + r.bottom()) / 2) for r in detect(small)]
        return np.array(centres).reshape(-1, 2) / scale, None

    return look


def describe(tallies: dict[str, Tally], count: int, without: int) -> str:
    """Markdown: a row a detector."""
    first = next(iter(tallies.values()))
    counts = {kind: len(hits) for kind, hits in first.hits.items()}
    lines = [
        f"{count} frames, in {without} of them YuNet sees no face; {len(first.made_up)} pictures without a face.",
        "",
    ]
    lines.append(
        f"| | all ({counts.get('upright', 0) + counts.get('aside', 0)}) | looking aside ({counts.get('aside', 0)}) | "
        + " | ".join(f"{kind} ({counts.get(kind, 0)})" for kind in OTHERS)
        + " | worst clip | clips under 95 % | found where YuNet finds none | made up, in 100 pictures | "
        "points off, % of the eyes' distance | after the landmark network | ms a frame | ms, 640 x 360 |"
    )
    lines.append("|---" * (11 + len(OTHERS)) + "|")
    for name, tally in tallies.items():
        shares = [_share(tally.hits.get("upright", []) + tally.hits.get("aside", []))]
        shares += [_share(tally.hits.get(kind, [])) for kind in ("aside", *OTHERS)]
        clips = {clip: float(np.mean(hits)) for clip, hits in tally.clips.items()}
        worst = min(clips, key=lambda clip: clips[clip]) if clips else ""
        cells = [*shares, f"{clips.get(worst, 0):.1%} ({worst})", str(sum(share < 0.95 for share in clips.values()))]
        cells += [str(tally.alone), f"{100 * np.mean(tally.made_up):.1f}"]
        cells += [f"{100 * np.mean(e):.1f}" if (e := tally.errors.get(k)) else "-" for k in ("found", "refined")]
        cells += [f"{1e3 * np.median(t):.0f}" if t else "-" for t in (tally.seconds, tally.large_seconds)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _share(hits: list[bool]) -> str:
    return f"{np.mean(hits):.1%}" if hits else "-"


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image.astype(np.uint8)[..., None], 3, axis=2))


if __name__ == "__main__":
    raise SystemExit(main())
