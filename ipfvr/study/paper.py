"""The numbers that the paper prints."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ipfvr.core.errors import UserError

FILE = Path(__file__).parent / "paper.yaml"


def paper_table(name: str) -> dict[str, dict[str, float]]:
    """Return the numbers of a table of the paper, by row and then by column key.

    Args:
        name: the name of the table, such as ``table1``; empty: a table without rows.

    Raises:
        UserError: the paper has no such table.
    """
    if not name:
        return {}
    tables = _read()
    if name not in tables:
        raise UserError(f"the paper has no '{name}': {FILE.name} has {', '.join(tables)}")
    columns = tables[name]["columns"]
    return {row: dict(zip(columns, values, strict=True)) for row, values in tables[name]["rows"].items()}


@lru_cache(maxsize=1)
def _read() -> dict[str, Any]:
    return OmegaConf.to_object(OmegaConf.load(FILE))  # type: ignore[return-value]
