"""Measure a restoration of clips that nobody degraded: how much detail and likeness of the source are left.

    python experiments/quality/undegraded.py --clips ../shared/data/clips --references ../shared/data/references

CLIPS holds a folder a person with videos, REFERENCES one with pictures; the first of each is taken. The main face of
the first frames is restored with the first picture that shows one face, and pasted. Detail is the variance of the
Laplacian of luma inside the mask, out over in; IDS is the cosine to the source's face; the reference's change is in
grey levels, at the square.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.faces.align import crop, invert, scale_of, warp
from ipfvr.faces.detect import Detector, make_detector
from ipfvr.faces.paste import blend_mask, paste
from ipfvr.faces.recognise import Recogniser, embed_faces, load_recogniser
from ipfvr.faces.reference import reference_crop
from ipfvr.faces.track import main_tracks, scan_video
from ipfvr.film.effect import mean_difference
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.reader import VideoReader
from ipfvr.video.strips import strip
from ipfvr.video.writer import write_picture

SHOWN = 256  # pixels of side at which squares of source and result are drawn


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--references", type=Path, required=True)
    parser.add_argument("--people", nargs="+", default=[])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--output", type=Path, help="a folder for pictures of source and result")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    config = load_config(None, args.overrides)
    restorer, detector = Restorer(config), make_detector(config.faces)
    judge = load_recogniser(config.weights.recogniser)
    people = [args.clips / name for name in args.people] or sorted(p for p in args.clips.iterdir() if p.is_dir())
    print(f"IDS by {judge.name}\n\n| clip | square, px | detail out / in | IDS to the source | reference changes |")
    print("|---|---|---|---|---|")
    for person in tqdm(people, leave=False):
        file = sorted(person.glob("*.mp4"))[0]
        picture = _first_face(sorted((args.references / person.name).glob("*")), detector, config.video.size)
        references = [] if picture is None else [picture]
        print(measure(file, args.frames, restorer, references, detector, judge, args.output), flush=True)


def measure(
    file: Path,
    frames: int,
    restorer: Restorer,
    references: list[np.ndarray],
    detector: Detector,
    judge: Recogniser,
    output: Path | None,
) -> str:
    """One clip's row of the table."""
    config, size = restorer.config, restorer.config.video.size
    images = list(itertools.islice(VideoReader(file), frames))
    scan = scan_video(images, detector, config.faces, every=config.faces.every)
    if not scan.tracks:
        raise UserError(f"no face in the first {frames} frames of {file}")
    track = main_tracks(scan.tracks)[0]
    indices = range(track.start, track.stop)
    matrices = [track.matrix(index, size) for index in indices]
    sources = [images[index].image for index in indices]
    lows = np.stack([crop(image, matrix, size) for image, matrix in zip(sources, matrices, strict=True)])
    conditions = restorer.conditions(references)
    shown = restorer.restore(lows, conditions, indices)
    change = 0.0
    if conditions.references:
        change = mean_difference(shown, restorer.restore(lows, restorer.conditions(), indices))
    results = [paste(*parts) for parts in zip(sources, shown, lows, matrices, strict=True)]
    ratios = [_detail(r, m, size) / _detail(s, m, size) for s, r, m in zip(sources, results, matrices, strict=True)]
    points = track.landmarks
    truth, found = (embed_faces(np.stack(f), points, judge) for f in (sources, results))
    likeness = float(torch.nn.functional.cosine_similarity(truth, found).mean())
    if output is not None:
        large = [m * SHOWN / size for m in matrices]
        squares = {
            name: np.stack([crop(f, m, SHOWN) for f, m in zip(pictures, large, strict=True)])
            for name, pictures in (("source", sources), ("result", results))
        }
        write_picture(output / f"{file.stem}.png", strip(squares, [0, len(sources) // 2], SHOWN))
    width = size / scale_of(matrices[len(matrices) // 2])
    return f"| {file.stem} | {width:.0f} | {np.mean(ratios):.3f} | {likeness:.4f} | {change:.2f} |"


def _detail(image: np.ndarray, matrix: np.ndarray, size: int) -> float:
    """Variance of the Laplacian of luma where the face's mask is above a half."""
    mask = warp(blend_mask(size), invert(matrix), image.shape[1::-1], cv2.BORDER_CONSTANT) > 0.5
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F)[mask].var())


def _first_face(pictures: list[Path], detector: Detector, size: int) -> np.ndarray | None:
    for picture in pictures:
        try:
            return reference_crop(picture, detector, size)
        except UserError:
            continue
    return None


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    raise SystemExit(run_verb(main))
