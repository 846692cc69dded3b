"""Where the package lies, and where it may keep files of its own."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Where this project keeps what it can make or fetch again: ``$XDG_CACHE_HOME/ipfvr`` or ``~/.cache/ipfvr``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ipfvr"
