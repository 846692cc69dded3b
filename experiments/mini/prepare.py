"""Lay out aligned pictures and clips as the trainings of mini read them: ROOT/<identity>/{reference,train}.

    python experiments/mini/prepare.py --source ../shared/data --root data/mini

Source holds ``images/<set>/<identity>/*`` (aligned to the 512 px face template unless the manifest calls them
photos), ``references/<identity>/*`` (photos of the people of the clips, and frames called ``<clip>_f<frame>``) and
``clips/<identity>/*.mp4``. A picture that lies in a set itself, ``images/<set>/<name>.jpg``, is the only one of its
person, who is called ``<set>_<name>``. Faces in clips, photos and references are found, aligned and cropped at
``--size`` pixels.
``ROOT/weak.yaml`` lists the people whom a manifest marks ``weak_identity``: some of their pictures may be of others.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path

from tqdm import tqdm

from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic
from ipfvr.core.options import FacesConfig
from ipfvr.faces.align import crop, crop_matrix
from ipfvr.faces.detect import make_detector
from ipfvr.faces.track import track_video
from ipfvr.video.reader import VideoReader, read_image
from ipfvr.video.writer import VideoWriter, write_picture

SIZE = 320  # a margin over 256 pixels, for random zooms


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path("data/mini"))
    parser.add_argument("--size", type=int, default=SIZE, help="side of the crops that are made here, pixels")
    args = parser.parse_args(argv)
    manifest = args.source / "manifest.json"
    if not manifest.is_file():
        raise UserError(f"no {manifest}: --source must hold manifest.json, images/ and clips/")
    entries = json.loads(manifest.read_text())["entries"]
    photos = {e["file"] for e in entries if e.get("kind") == "photo" or e["type"] == "reference"}
    write_weak(args.source, args.root / "weak.yaml")
    detector = make_detector(FacesConfig())
    files = [*args.source.glob("images/*/*/*.*"), *args.source.glob("references/*/*.*")]
    for file in tqdm(sorted(files), desc="pictures"):
        picture = str(file.relative_to(args.source)) in photos
        output = args.root / file.parent.name / "reference" / file.with_suffix(".png" if picture else file.suffix).name
        if not output.exists():
            output.parent.mkdir(parents=True, exist_ok=True)
            if picture:
                _crop_photo(file, output, detector, args.size)
            else:
                output.write_bytes(file.read_bytes())
    for file in tqdm(sorted(args.source.glob("images/*/*.jpg")), desc="single pictures"):
        output = args.root / f"{file.parent.name}_{file.stem}" / "reference" / file.name
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(file.read_bytes())
    for file in tqdm(sorted(args.source.glob("clips/*/*.mp4")), desc="clips"):
        output = args.root / file.parent.name / "train" / file.name
        if not output.exists():
            _crop_clip(file, output, detector, args.size)


def write_weak(source: Path, output: Path) -> None:
    """List the people marked ``weak_identity`` in the manifests of the source and of its picture sets."""
    weak: set[str] = set()
    for manifest in (source / "manifest.json", *sorted(source.glob("images/*/manifest.json"))):
        people = json.loads(manifest.read_text()).get("identities", {})
        weak |= {name for name, facts in people.items() if facts.get("weak_identity")}
    with atomic(output) as temporary:
        temporary.write_text("identities: [" + ", ".join(sorted(weak)) + "]\n")


def _crop_photo(file: Path, output: Path, detector, size: int) -> None:
    image = read_image(file)
    faces = detector.detect(image)
    if faces:
        face = crop(image, crop_matrix(faces[0].landmarks, size), size)
        write_picture(output, face, 6)


def _crop_clip(file: Path, output: Path, detector, size: int) -> None:
    reader = VideoReader(file)
    track = track_video(reader, detector, FacesConfig())
    with VideoWriter(output, size, size, rate=Fraction(reader.info.rate), crf=12) as writer:
        for frame in VideoReader(file):
            matrix = track.matrix(frame.index, size)
            if matrix is not None:
                writer.write(crop(frame.image, matrix, size))


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
