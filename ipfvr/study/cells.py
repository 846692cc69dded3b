"""Cells: pieces of work whose results are kept in a folder named by the hash of all that made them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ipfvr.core.files import write_json
from ipfvr.core.hashes import digest

FORMAT = 1  # raised when a cell's content changes its meaning: every cell is then made anew
RECORD = "cell.json"
NOT_RUN, FAILED = "not run", "failed"


@dataclass(frozen=True)
class Cell:
    """A piece of work.

    Attributes:
        kind: ``clips`` | ``low`` | ``lora`` | ``restored`` | ``scores``.
        name: what a person calls it.
        key: all that its result depends on, JSON values; other cells are in it by their hash.
        given: what it needs beside the key: paths, and options that change nothing in the result.
        after: cells that must be finished before it.
    """

    kind: str
    name: str
    key: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    after: tuple[Cell, ...] = ()

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits."""
        return digest({"format": FORMAT, "kind": self.kind, **self.key})[:16]


class Store:
    """The folder of finished cells.

    Args:
        root: ``ROOT/<kind>/<hash>/`` is a finished cell; ``<hash>.failed.json`` beside it says why one is not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, cell: Cell) -> Path:
        """Where the cell lies, or will."""
        return self.root / cell.kind / cell.hash

    def finished(self, cell: Cell) -> bool:
        """Whether it is there and whole."""
        return (self.folder(cell) / RECORD).is_file()

    def record(self, cell: Cell) -> dict[str, Any]:
        """What :meth:`finish` was given."""
        return json.loads((self.folder(cell) / RECORD).read_text())

    @contextmanager
    def alone(self, cell: Cell) -> Iterator[None]:
        """Wait until no other process is at the cell, and keep others away from it inside the block."""
        lock = self.folder(cell).with_name(f".{cell.hash}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def partial(self, cell: Cell) -> Path:
        """Where the cell is made."""
        return self.folder(cell).with_name(f".{cell.hash}.partial")

    def begin(self, cell: Cell) -> Path:
        """The temporary folder of a cell; a training that was stopped finds its checkpoint in it."""
        folder = self.partial(cell)
        if cell.kind != "lora":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, cell: Cell, folder: Path, record: dict[str, Any]) -> None:
        """Give the temporary folder its name."""
        write_json(folder / RECORD, {"kind": cell.kind, "name": cell.name, "key": cell.key, **record})
        shutil.rmtree(self.folder(cell), ignore_errors=True)
        os.replace(folder, self.folder(cell))
        self._trouble(cell).unlink(missing_ok=True)

    def fail(self, cell: Cell, status: str, reason: str) -> None:
        """Note why a cell has no result: ``failed`` or ``not run``."""
        write_json(self._trouble(cell), {"name": cell.name, "status": status, "reason": reason})

    def forget(self, cell: Cell) -> None:
        """Let a cell that failed in an earlier run be tried again."""
        self._trouble(cell).unlink(missing_ok=True)

    def trouble(self, cell: Cell) -> tuple[str, str] | None:
        """(status, reason) of a cell that an earlier try has not finished; None: it is finished, or was never tried."""
        if self.finished(cell) or not self._trouble(cell).is_file():
            return None
        found = json.loads(self._trouble(cell).read_text())
        return found["status"], found["reason"]

    def _trouble(self, cell: Cell) -> Path:
        return self.folder(cell).with_name(f"{cell.hash}.failed.json")
