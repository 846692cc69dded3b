"""The folder of the package and its cache folder."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """The folder for files that can be made or fetched again: ``$XDG_CACHE_HOME/ipfvr`` or ``~/.cache/ipfvr``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ipfvr"
