"""IP-FVR: reference-guided identity preservation in face video restoration.

The public API restores a whole video::

    from pathlib import Path
    from ipfvr import Job, load_config, restore_file

    restore_file(Job(Path("old.mp4"), Path("restored.mp4"), references=(Path("photo.jpg"),)), load_config())

It also restores crops of one face as arrays, aligned as :mod:`ipfvr.faces.align` defines::

    from ipfvr import Restorer

    restorer = Restorer(load_config())
    person = restorer.conditions([reference])    # (256, 256, 3) uint8 RGB
    sharp = restorer.restore(low, person)        # (F, h, w, 3) to (F, 256, 256, 3) uint8 RGB

The names are imported when they are used: ``import ipfvr`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
# The module of each name, and its name there.
_DEFINITIONS = {
    "Job": ("ipfvr.film.job", "Job"),
    "restore_file": ("ipfvr.film.run", "restore"),
    "Restorer": ("ipfvr.restoration.restorer", "Restorer"),
    "load_config": ("ipfvr.core.config", "load_config"),
    "Request": ("ipfvr.study.evaluate", "Request"),
    "evaluate_files": ("ipfvr.study.evaluate", "evaluate_files"),
}
__all__ = ["Job", "Request", "Restorer", "evaluate_files", "load_config", "restore_file"]


def __getattr__(name: str) -> Any:
    if name not in _DEFINITIONS:
        raise AttributeError(f"module 'ipfvr' has no attribute '{name}'")
    module, attribute = _DEFINITIONS[name]
    return getattr(importlib.import_module(module), attribute)
