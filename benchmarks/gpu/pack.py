"""What a training of mini needs on a machine without a network, as archives of a limited size.

    python benchmarks/gpu/pack.py --source ../shared/data --root data/mini256 --output runs/gpu_kit
    python benchmarks/gpu/pack.py --output runs/gpu_kit --hide      # tracked weights that are not needed leave the tree
    python benchmarks/gpu/pack.py --output runs/gpu_kit --restore   # and come back

The parts ``a``, ``b``, ... of the output each fit the ``--room`` that a call has beside the tree, so that each travels
with one call; ``run.sh`` unpacks whatever parts have come. Pictures are aligned squares of 256 pixels at most, as WebP.
Python packages that the machine lacks are unpacked wheels: ``pip download`` fetches them for ``--python``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import cv2
from tqdm import tqdm

from ipfvr.core.errors import UserError, run_verb
from ipfvr.data.layout import PICTURES, list_identities
from ipfvr.video.reader import read_image
from ipfvr.weights.registry import locate

HERE = Path(__file__).resolve().parent.parent.parent
HELDOUT = HERE / "experiments/mini/heldout_joint.yaml"
VALIDATION = HERE / "experiments/mini/validation.yaml"
WHEELS = ("diffusers==0.42.1", "av==18.1.0", "omegaconf==2.4.0", "importlib-metadata==8.7.0")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
SIDE, QUALITY = 256, 88  # of the pictures: pixels, WebP's quality
PIECE = 13  # MiB of pictures in an archive
NEEDLESS = (
    "denoiser",
    "adapter",
    "attributes",
    "centerface",
    "landmarks",
    "recogniser",
)  # of the preset, for this training


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, help="has images/*/attributes.csv")
    parser.add_argument("--root", type=Path, help="as experiments/mini/prepare.py lays it out")
    parser.add_argument("--start", type=Path, nargs="*", default=[], help="weights to go on from, and the codec")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu_kit"))
    parser.add_argument("--room", type=float, nargs="+", default=[46.0, 58.0, 46.0], help="MiB of each part")
    parser.add_argument("--python", default="3.12", help="of the machine")
    parser.add_argument("--hide", action="store_true")
    parser.add_argument("--restore", action="store_true")
    args = parser.parse_args(argv)
    if args.hide or args.restore:
        _move(args.output / "hidden", args.hide)
        return
    if args.source is None or args.root is None:
        raise UserError("give --source and --root, or --hide, or --restore")
    args.output.mkdir(parents=True, exist_ok=True)
    files = [_packages(args.output, args.python), _tar(args.output / "judge.tar", [_weight(locate("mobilefacenet"))])]
    files += _pictures(args.output, args.root, args.source)
    files += [_tar(args.output / f"{f.stem}.tar", [_weight(f)]) for f in args.start]
    for name, part in zip("abcdefgh", _parts(files, args.room), strict=False):
        folder = args.output / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in part:
            shutil.move(file, folder / file.name)
        size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
        print(f"{folder}: {size:.1f} MiB, {', '.join(sorted(f.name for f in folder.iterdir()))}")


def _packages(output: Path, python: str) -> Path:
    """The wheels, unpacked and packed again: xz saves a quarter."""
    with tempfile.TemporaryDirectory() as name:
        folder, platforms = Path(name), [x for p in PLATFORMS for x in ("--platform", p)]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", python, "--implementation", "cp", *platforms, "-d", str(folder), *WHEELS]
        subprocess.run(command, check=True)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder / "site")
        return _tar(output / "site.tar.xz", [(p, f"site/{p.name}") for p in sorted((folder / "site").iterdir())])


def _weight(file: Path) -> tuple[Path, str]:
    return file, f"weights/{file.name}"


def _pictures(output: Path, root: Path, source: Path) -> list[Path]:
    """Archives of the people of the training, and of those who validate."""
    chosen = list_identities(root, HELDOUT)
    validating = {p.name for p in list_identities(root, VALIDATION, held=True)}
    chosen += [p for p in list_identities(root, HELDOUT, held=True) if p.name in validating]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for person in tqdm(chosen, desc="people"):
            _person(person, folder / "root" / person.name)
        entries = [(root / "weak.yaml", "root/weak.yaml")]
        for file in sorted(source.glob("images/*/attributes.csv")):
            captions = folder / f"{file.parent.name}.csv"
            captions.write_text(file.read_text().replace(".jpg", ".webp").replace(".png", ".webp"))
            entries.append((captions, f"captions/{captions.name}"))
        archives, size = [], 0
        for person in sorted((folder / "root").iterdir()):
            size += sum(f.stat().st_size for f in person.rglob("*") if f.is_file())
            entries.append((person, f"root/{person.name}"))
            if size > PIECE * 2**20:
                archives.append(_tar(output / f"people{len(archives)}.tar.gz", entries))
                entries, size = [], 0
        return [*archives, _tar(output / f"people{len(archives)}.tar.gz", entries)]


def _person(person: Path, output: Path) -> None:
    for file in sorted((person / "reference").glob("[!.]*")):
        if file.suffix.lower() in PICTURES:
            image = read_image(file)
            if image.shape[0] > SIDE:
                image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            target = output / "reference" / f"{file.stem}.webp"
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if (person / "train").is_dir():
        shutil.copytree(person / "train", output / "train")


def _tar(path: Path, entries: list[tuple[Path, str]]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as archive:
        for file, name in entries:
            archive.add(file, name)
    return path


def _parts(files: list[Path], room: list[float]) -> list[list[Path]]:
    """The first file to the first part; of the others the largest first, each to the first part with room for it.

    Raises:
        UserError: they do not fit.
    """
    sizes = {file: file.stat().st_size / 2**20 for file in files}
    parts: list[list[Path]] = [[] for _ in room]
    for file in [files[0], *sorted(files[1:], key=lambda f: -sizes[f])]:
        able = [
            part for part, most in zip(parts, room, strict=True) if sum(sizes[f] for f in part) + sizes[file] <= most
        ]
        if not able:
            raise UserError(f"the kit needs more --room than {room} MiB: name another part")
        able[0].append(file)
    return parts


def _move(hidden: Path, away: bool) -> None:
    preset = HERE / "ipfvr/presets/mini"
    hidden.mkdir(parents=True, exist_ok=True)
    for name in NEEDLESS:
        file, other = preset / f"{name}.safetensors", hidden / f"{name}.safetensors"
        source, target = (file, other) if away else (other, file)
        if source.is_file():
            shutil.move(source, target)


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
