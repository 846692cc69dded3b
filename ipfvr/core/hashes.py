"""SHA-256 of files, folders and values."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from ipfvr.core.errors import UserError
from ipfvr.core.files import write_json
from ipfvr.core.folders import cache_folder

REMEMBER_FROM = 16 << 20  # bytes: hashes of files this large are remembered on disk


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file; for a folder, that of its sorted ``<digest>  <relative name>`` lines.

    The digests of large files are remembered in the cache folder by path, size and time of change.
    """
    path = Path(path)
    if path.is_dir():
        lines = (f"{sha256(p)}  {p.relative_to(path).as_posix()}\n" for p in sorted(path.rglob("*")) if p.is_file())
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    status = path.stat()
    if status.st_size < REMEMBER_FROM:
        return _digest(path)
    memory = cache_folder() / "hashes.json"
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    if key not in known:
        known[key] = _digest(path)
        # A cache that cannot be written costs time the next run, nothing else.
        with contextlib.suppress(UserError, OSError):
            write_json(memory, known)
    return known[key]


def digest(content: Any) -> str:
    """Hexadecimal SHA-256 of values as JSON, independent of the order of keys; other types are written as text.

    Examples:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
