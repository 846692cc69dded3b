"""Make the data layout from raw videos and pictures: one folder for each person, and a page of what was kept."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic, check_writable, write_json
from ipfvr.core.hashes import digest, sha256
from ipfvr.core.options import Config
from ipfvr.core.provenance import provenance
from ipfvr.data.layout import CLIPS, PICTURES
from ipfvr.data.scenes import SCENES
from ipfvr.faces.detect import make_detector
from ipfvr.faces.people import with_bounds
from ipfvr.faces.recognise import load_recogniser
from ipfvr.prepare.candidates import Candidate, Networks, prepare_pictures, prepare_video, split_scenes
from ipfvr.prepare.contact import contact_sheet
from ipfvr.video.reader import VideoReader

RECORD = "prepare.json"  # in a person's folder: what it was made of, and what became of it


def prepare_people(
    videos: Path, pictures: Path, root: Path, config: Config, identities: Sequence[str] | None = None
) -> str:
    """Make the folders of all people, and ``prepare.html`` and ``prepare.json`` beside them.

    Args:
        videos, pictures: folders with one folder for each person; they may be the same folder.
        root: gets ``<identity>/{reference,train,test}``.
        config: ``prepare``, ``faces`` and ``people`` are used.
        identities: only these people; None: all.

    Returns:
        What was kept and dropped, as text.

    Raises:
        UserError: folders or people that are not there, a folder in ``root`` that this did not make, no scene kept.
    """
    names = find_people(videos, identities)
    detector = make_detector(config.faces)
    recogniser = load_recogniser(config.people.recogniser)
    config = replace(config, people=with_bounds(config.people, recogniser.name))
    networks = Networks(detector, recogniser)
    people: dict[str, list[Candidate]] = {}
    for name in tqdm(names, desc="people", leave=False):
        files = _files(pictures / name, PICTURES), _files(videos / name, CLIPS)
        people[name] = prepare_person(*files, root / name, networks, config)
    remarks = {name: remarks_of(candidates) for name, candidates in people.items()}
    text, page = summary(people, remarks), root / "prepare.html"
    with atomic(page) as temporary:
        temporary.write_text(contact_sheet(people, remarks))
    weights = {**detector.weights, "recogniser": recogniser.path}
    records = {name: [c.record() for c in candidates] for name, candidates in people.items()}
    write_json(root / RECORD, {"people": records, "remarks": remarks, **provenance(config, config.seed, weights)})
    if not any(c.part == "train" for candidates in people.values() for c in candidates):
        print(text)
        raise UserError(f"no scene was kept; {page} shows why")
    return f"{text}\n{page}"


def find_people(videos: Path, identities: Sequence[str] | None = None) -> list[str]:
    """Return the sorted names of the folders in ``videos``.

    Raises:
        UserError: the folder is missing or holds no folders, or an identity has none.
    """
    if not videos.is_dir():
        raise UserError(f"--videos {videos} is not a folder; it must hold one folder of videos for each person")
    names = sorted(p.name for p in videos.iterdir() if p.is_dir() and not p.name.startswith("."))
    missing = sorted(set(identities or ()) - set(names))
    if missing or not names:
        what = f"no {', '.join(missing)} in" if missing else "no folder of a person in"
        raise UserError(f"{what} --videos {videos}; it holds {', '.join(names[:8]) or 'nothing'}")
    return sorted(identities) if identities else names


def prepare_person(
    pictures: Sequence[Path], videos: Sequence[Path], folder: Path, networks: Networks, config: Config
) -> list[Candidate]:
    """Make one person's folder, whole or not at all.

    Args:
        pictures, videos: the raw files.
        folder: ROOT/<identity>.
        networks: what looks at faces.
        config: see :mod:`ipfvr.prepare.candidates`.

    Returns:
        What became of every picture and of every face's way through every shot.

    Raises:
        UserError: ``folder`` is there and this verb did not make it.
    """
    key = _key([*pictures, *videos], networks, config)
    if folder.exists():
        record = folder / RECORD
        if not record.is_file():
            raise UserError(f"{folder} exists but was not made by prepare; choose another --root, or move it away")
        made = json.loads(record.read_text())
        if made["key"] == key:
            return [Candidate(**{**c, "source": Path(c["source"])}) for c in made["candidates"]]
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    check_writable(partial / RECORD)
    try:
        # The seed depends on the person's name, so that scenes are shared out alike each time.
        rng = np.random.default_rng([config.seed, zlib.crc32(folder.name.encode())])
        candidates = _fill(pictures, videos, partial, networks, config, rng)
        write_json(partial / RECORD, {"key": key, "candidates": [c.record() for c in candidates]})
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return candidates


def remarks_of(candidates: Sequence[Candidate]) -> list[str]:
    """Notes on a person, one line each."""
    count = {part: sum(c.part == part for c in candidates) for part in ("reference", "train", "test")}
    remarks = []
    if not count["reference"]:
        remarks.append("no picture of the person, so nothing says which face in the videos is the person's")
    elif count["train"] < SCENES:
        remarks.append(f"{count['train']} scenes to train on: the paper takes {SCENES}")
    if count["train"] and not count["test"]:
        remarks.append("no scene is left to test on")
    return remarks


def summary(people: Mapping[str, Sequence[Candidate]], remarks: Mapping[str, Sequence[str]]) -> str:
    """Return one line for each person, and the reasons why scenes were dropped."""
    lines = []
    for name, candidates in people.items():
        counts = [f"{sum(c.part == part for c in candidates)} {part}" for part in ("reference", "train", "test")]
        dropped = [c for c in candidates if c.dropped]
        lines.append(f"{name}: {', '.join(counts)}" + (f"; {len(dropped)} dropped" if dropped else ""))
        lines += [f"    {remark}" for remark in remarks[name]]
        lines += [f"    {c.source.name}, frames {c.start} to {c.stop - 1}: {c.dropped}" for c in dropped]
    return "\n".join(lines)


def _fill(
    pictures: Sequence[Path],
    videos: Sequence[Path],
    folder: Path,
    networks: Networks,
    config: Config,
    rng: np.random.Generator,
) -> list[Candidate]:
    """Write the person's parts into ``folder``."""
    found, person = prepare_pictures(pictures, folder, networks, config)
    if person is None:
        return [*found, *(Candidate(v, dropped="no picture shows whom to look for") for v in videos)]
    scenes: list[Candidate] = []
    for video in videos:
        with tqdm(desc=video.name, unit="frame", leave=False, total=2 * _frames(video)) as bar:
            scenes += prepare_video(video, person, folder, networks, config, lambda _, bar=bar: bar.update())
    kept = [scene for scene in scenes if not scene.dropped]
    split_scenes(kept, config.prepare.train_scenes, rng)
    for scene in kept:
        (folder / scene.part).mkdir(exist_ok=True)
        (folder / scene.name).rename(folder / scene.part / scene.name)
    return [*found, *scenes]


def _frames(video: Path) -> int:
    try:
        return VideoReader(video).info.frames
    except UserError:
        return 0  # prepare_video says what is wrong with it


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    return sorted(f for f in folder.rglob("[!.]*") if f.suffix.lower() in suffixes)


def _key(files: Sequence[Path], networks: Networks, config: Config) -> str:
    """Return a hash of the files and of all options that decide how they are used."""
    decided = {
        "files": [(file.name, sha256(file)) for file in files],
        "options": [asdict(section) for section in (config.prepare, config.faces, config.people)],
        "seed": config.seed,
        "networks": [networks.recogniser.sha256, *(sha256(path) for path in networks.detector.weights.values())],
    }
    return digest(decided)
