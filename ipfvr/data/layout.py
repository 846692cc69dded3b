"""The layout of data on disk, ROOT/<identity>/{reference,train,test}: the people and their files.

Nothing heavy is imported here.
"""

from __future__ import annotations

import zlib
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from ipfvr.core.errors import UserError

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp"))
CLIPS = frozenset((".mp4", ".mkv", ".mov"))


@dataclass(frozen=True)
class Folder:
    """The files of one person.

    Attributes:
        name: of the folder.
        references: pictures.
        train: scenes for the LoRA.
        test: scenes that are restored.
        note: what a reader must know of them; empty: nothing.
    """

    name: str
    references: tuple[Path, ...]
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    note: str = ""


def read_root(root: Path) -> list[Folder]:
    """List all people with a video to restore. Without test scenes the training scenes are used, with a note.

    Raises:
        UserError: no such folder, or nobody in it.
    """
    if not root.is_dir():
        raise UserError(f"data.root '{root}' is not a folder; it holds <identity>/{{reference,train,test}}")
    people = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        references, train, test = (
            tuple(list_files([folder], part, endings))
            for part, endings in (("reference", PICTURES), ("train", CLIPS), ("test", CLIPS))
        )
        if test:
            people.append(Folder(folder.name, references, train, test))
        elif train:
            note = f"{folder.name} has no scenes in test/: the scenes that its LoRA is trained on are restored"
            people.append(Folder(folder.name, references, train, train, note))
    if not people:
        raise UserError(
            f"nobody in {root} has a video in test/ or train/; the layout is ROOT/<identity>/{{reference,train,test}}"
        )
    return people


def list_identities(root: str | Path, heldout: str | Path = "", held: bool = False) -> list[Path]:
    """List the folders of the people of a data root, sorted.

    Args:
        root: a folder with one folder for each person.
        heldout: a YAML file with the list ``identities``, or empty.
        held: give the people held out instead of the others.

    Raises:
        UserError: a file or folder that is not there, or no people left.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"data.root '{root}' is not a folder; docs/data.md shows the layout")
    out: set[str] = set()
    if str(heldout):
        out = read_identities(heldout, "data.heldout")
    people = [p for p in sorted(root.iterdir()) if p.is_dir() and (p.name in out) == held]
    if not people:
        raise UserError(f"no people in data.root '{root}' {'in' if held else 'outside'} the list '{heldout}'")
    return people


def read_identities(path: str | Path, option: str) -> set[str]:
    """Return the list ``identities`` of a YAML file.

    Raises:
        UserError: no such file; the line names ``option``, which gave it.
    """
    if not Path(path).is_file():
        raise UserError(f"{option} '{path}' is not a file")
    return set(OmegaConf.to_object(OmegaConf.load(path))["identities"])


def list_files(people: list[Path], folder: str, suffixes: Set[str]) -> list[Path]:
    """List files with one of ``suffixes`` in ``<person>/<folder>``, sorted, without hidden (incomplete) ones."""
    found = [f for p in people for f in sorted((p / folder).glob("[!.]*"))]
    return [f for f in found if f.suffix.lower() in suffixes]


def piece_name(video: Path, index: int) -> str:
    """Return the name of a piece of a scene, such as ``id13_c04_0``."""
    return f"{video.stem}_{index}"


def piece_seed(name: str) -> int:
    """Return the seed of a piece's degradation, which depends only on the piece's name."""
    return zlib.crc32(name.encode())
