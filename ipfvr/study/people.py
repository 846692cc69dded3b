"""The people whose clips an experiment uses: from a data root, the shared data, or the embedded sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from ipfvr.core.errors import UserError
from ipfvr.data.layout import Folder, read_root
from ipfvr.study.schema import Study
from ipfvr.weights import registry

SAMPLE = "astronaut"
SAMPLE_SOURCE = "the embedded sample (the astronaut Eileen Collins, NASA, and two people drawn after her portrait)"
SAMPLE_FRAMES, SAMPLE_SIZE = 96, 256  # a test scene is as long as the longest clip of the tables


def find_people(study: Study) -> tuple[list[Folder], Path, str]:
    """Return the people of an experiment, the data root that holds their folders, and the source of the data as text.

    The root is ``data.root`` if it is given; else the shared data beside a checkout, linked into a root as the file
    ``scenes`` says; else the embedded sample, written as videos.

    Raises:
        UserError: the root is missing or holds nobody, or a person is not in it.
    """
    config, notes, names = study.config(), {}, study.limits.people
    shared = registry.PACKAGE.parent.parent / "shared" / "data"
    if config.data.root:
        root, source = Path(config.data.root), f"data.root {config.data.root}"
    elif study.preset != "full" and (shared / "clips").is_dir():
        root, source = study.output.parent / "shared", "the shared data beside the checkout"
        notes = link_scenes(shared, root, study.file.parent / study.experiment.scenes)
        names = names or study.limits.of_shared
    elif study.preset != "full":
        root, source = study.output.parent / "sample_people", SAMPLE_SOURCE
        notes = {
            name: f"training and test scenes are camera moves over one picture, the reference, for: {name}"
            for name in write_sample(root)
        }
    else:
        raise UserError("preset=full needs data.root=ROOT with ROOT/<identity>/{reference,train,test}")
    people = [replace(person, note=notes.get(person.name, person.note)) for person in read_root(root)]
    return choose(people, names, study.limits.most, root), root, source


def choose(people: Sequence[Folder], names: Sequence[str], most: int, root: Path) -> list[Folder]:
    """Choose the named people, or all, but at most ``most`` (0: no limit).

    Raises:
        UserError: nobody has one of the names.
    """
    by_name = {person.name: person for person in people}
    if unknown := [name for name in names if name not in by_name]:
        raise UserError(f"no {', '.join(unknown)} in {root}; there are {', '.join(by_name)}")
    chosen = [by_name[name] for name in names] or list(people)
    return chosen[: most or None]


def link_scenes(source: Path, root: Path, file: Path) -> dict[str, str]:
    """Make ROOT/<identity>/{reference,train,test} of links to a source with ``clips/`` and ``references/``.

    Args:
        source: the folder with ``clips/<id>/<id>_<scene>.mp4`` and ``references/<id>/<id>_<picture>.*``.
        root: the folder to create.
        file: a YAML file, ``people: {id: {train: [scene, ...], test: [...], reference: [...], note: ...}}``.

    Returns:
        A note for the reader by the name of the person.

    Raises:
        UserError: a file is missing.
    """
    if not file.is_file():
        raise UserError(f"there is no {file}, which says what each scene is used for")
    notes, wanted = {}, set()
    for name, parts in OmegaConf.to_object(OmegaConf.load(file))["people"].items():
        if note := parts.pop("note", ""):
            notes[name] = f"{note} for: {name}"
        for part, stems in parts.items():
            folder = source / ("references" if part == "reference" else "clips") / name
            for stem in stems:
                found = sorted(folder.glob(f"{name}_{stem}.*"))
                if not found:
                    raise UserError(f"no {name}_{stem} in {folder}")
                link = root / name / part / found[0].name
                wanted.add(link)
                if not link.exists():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.unlink(missing_ok=True)
                    link.symlink_to(found[0].resolve())
    for link in root.glob("*/*/*"):  # of an earlier state of the file: a test scene must not stay among the training's
        if link.is_symlink() and link not in wanted:
            link.unlink()
    return notes


def write_sample(root: Path, names: Sequence[str] = ()) -> list[str]:
    """Write the embedded sample: for each person a training scene, a test scene and the portrait.

    Args:
        root: the folder to create; existing files are kept.
        names: names from :data:`ipfvr.data.drawn.SITTERS`; empty: all three.

    Returns:
        The names of the people.
    """
    from ipfvr.data.drawn import SITTERS, film
    from ipfvr.video.writer import write_picture, write_video

    written = [sitter for sitter in SITTERS if not names or sitter.name in names]
    for sitter in written:
        folder = root / sitter.name
        if not (picture := folder / "reference" / "portrait.png").is_file():
            write_picture(picture, sitter.picture)
        for part in ("train", "test"):
            if not (video := folder / part / f"{sitter.name}_{part}.mp4").is_file():
                write_video(video, film(sitter, SAMPLE_FRAMES, SAMPLE_SIZE, later=part == "test"), 24, 8)
    return [sitter.name for sitter in written]
