"""What a row's result depends on beside its clip, and whether its program is here; imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipfvr.core.options import Config, ProgramConfig
from ipfvr.core.readers import CLIP, read_by
from ipfvr.methods.description import PROGRAMS, Description, read_description
from ipfvr.weights.needs import WORDS, digest_of, needed_parts

VARIABLE = "IPFVR_PROGRAMS"  # a folder with one folder a program
OWN = ("bicubic", "ipfvr", "venhancer")
IMPERSONAL = ("bicubic", "venhancer")  # those of them that look at nothing of the person


def method_settings(name: str, config: Config) -> dict[str, Any]:
    """The options and the files of weights that the row ``name`` reads, as JSON values, for a finished cell's hash.

    Raises:
        UserError: no such row.
    """
    if name == "bicubic":
        return {"method": name}
    if name in OWN:
        return {
            "method": name,
            "options": read_by(CLIP, config),
            "weights": digests(config, (*needed_parts(config), *(() if name in IMPERSONAL else WORDS))),
        }
    from ipfvr.methods.catalogue import make_method

    return make_method(name, config).settings()


def not_installed(name: str, config: Config) -> str | None:
    """One line on how to install an external program; None: it is here, or the row needs none."""
    settings = config.methods.get(name, ProgramConfig())
    path = Path(settings.description or PROGRAMS / f"{name}.yaml")
    if name in OWN or not path.is_file() or program_folder(name, settings) is not None:
        return None
    return how_to_install(name, read_description(path))


def how_to_install(name: str, description: Description) -> str:
    """One line that says how to get a program."""
    return f"{description.title} is not installed: {description.install}; then give methods.{name}.folder=/path/to/it"


def program_folder(name: str, settings: ProgramConfig) -> Path | None:
    """Where a program lies: ``methods.<name>.folder``, else ``<name>`` in the folder that IPFVR_PROGRAMS names."""
    if settings.folder:
        return Path(settings.folder).expanduser().resolve()
    root = os.environ.get(VARIABLE)
    return Path(root).expanduser().resolve() / name if root and (Path(root) / name).is_dir() else None


def digests(config: Config, parts: Sequence[str]) -> dict[str, str]:
    """SHA-256 of what ``config.weights`` names, by part: see :func:`ipfvr.weights.needs.digest_of`."""
    return {part: digest_of(getattr(config.weights, part)) for part in parts}
