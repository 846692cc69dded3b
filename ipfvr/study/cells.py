"""Cells: pieces of work whose results are kept in a folder that is named by the hash of all their inputs."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ipfvr.core.files import write_json
from ipfvr.core.hashes import digest

FORMAT = 1  # increased when the content of a cell changes its meaning; every cell is then made again
RECORD = "cell.json"
NOT_RUN, FAILED = "not run", "failed"


@dataclass(frozen=True)
class Cell:
    """A piece of work.

    Attributes:
        kind: ``clips`` | ``low`` | ``lora`` | ``restored`` | ``scores``.
        name: the name that a reader sees.
        key: everything that the result depends on, as JSON values; it names other cells by their hash.
        given: what the work needs beside the key: paths, and options that do not change the result.
        after: the cells that must be finished before this one.
    """

    kind: str
    name: str
    key: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    after: tuple[Cell, ...] = ()

    @cached_property
    def hash(self) -> str:
        """The hash of the cell: sixteen hexadecimal digits."""
        return digest({"format": FORMAT, "kind": self.kind, **self.key})[:16]


class Store:
    """The folder of finished cells.

    Args:
        root: ``ROOT/<kind>/<hash>/`` holds a finished cell; ``<hash>.failed.json`` beside it says why a cell failed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, cell: Cell) -> Path:
        """Return the folder of a cell, which exists once the cell is finished."""
        return self.root / cell.kind / cell.hash

    def finished(self, cell: Cell) -> bool:
        """Return whether a cell is finished."""
        return (self.folder(cell) / RECORD).is_file()

    def record(self, cell: Cell) -> dict[str, Any]:
        """Read the record that :meth:`finish` wrote."""
        return json.loads((self.folder(cell) / RECORD).read_text())

    def partial(self, cell: Cell) -> Path:
        """Return the temporary folder in which a cell is made."""
        return self.folder(cell).with_name(f".{cell.hash}.partial")

    def begin(self, cell: Cell) -> Path:
        """Create the temporary folder of a cell; an interrupted training finds its checkpoint there."""
        folder = self.partial(cell)
        if cell.kind != "lora":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, cell: Cell, folder: Path, record: dict[str, Any]) -> None:
        """Write the record of a cell and move its temporary folder into place."""
        write_json(folder / RECORD, {"kind": cell.kind, "name": cell.name, "key": cell.key, **record})
        shutil.rmtree(self.folder(cell), ignore_errors=True)
        os.replace(folder, self.folder(cell))
        self._trouble(cell).unlink(missing_ok=True)

    def fail(self, cell: Cell, status: str, reason: str) -> None:
        """Record why a cell has no result: ``failed`` or ``not run``."""
        write_json(self._trouble(cell), {"name": cell.name, "status": status, "reason": reason})

    def forget(self, cell: Cell) -> None:
        """Delete the record of a failure, so that the cell is tried again."""
        self._trouble(cell).unlink(missing_ok=True)

    def trouble(self, cell: Cell) -> tuple[str, str] | None:
        """Return (status, reason) of a cell that has failed; None: the cell is finished or was never tried."""
        if self.finished(cell) or not self._trouble(cell).is_file():
            return None
        found = json.loads(self._trouble(cell).read_text())
        return found["status"], found["reason"]

    def _trouble(self, cell: Cell) -> Path:
        return self.folder(cell).with_name(f"{cell.hash}.failed.json")
