"""The settings that a row's result depends on, and whether its program is installed; no heavy package is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipfvr.core.options import Config, ProgramConfig
from ipfvr.core.readers import CLIP, read_by
from ipfvr.methods.description import PROGRAMS, Description, read_description
from ipfvr.weights.needs import WORDS, digest_of, needed_parts

VARIABLE = "IPFVR_PROGRAMS"  # names a folder with one folder for each program
OWN = ("bicubic", "ipfvr", "venhancer")
OURS = ("ipfvr", "venhancer")  # those that the networks of this package are
IMPERSONAL = ("bicubic", "venhancer")  # those that use no references, LoRA or words of the person


def method_settings(name: str, config: Config) -> dict[str, Any]:
    """Return the options and the digests of weights that a row uses, as JSON values for the hash of a cell.

    Raises:
        UserError: there is no such row.
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
    """Return one line on how to install a row's external program; None: it is installed, or the row needs none."""
    settings = config.methods.get(name, ProgramConfig())
    path = Path(settings.description or PROGRAMS / f"{name}.yaml")
    if name in OWN or not path.is_file() or program_folder(name, settings) is not None:
        return None
    return how_to_install(name, read_description(path))


def how_to_install(name: str, description: Description) -> str:
    """Return one line on how to install a program."""
    return f"{description.title} is not installed: {description.install}; then give methods.{name}.folder=/path/to/it"


def program_folder(name: str, settings: ProgramConfig) -> Path | None:
    """Return a program's folder: ``methods.<name>.folder``, else ``<name>`` in the folder that IPFVR_PROGRAMS names."""
    if settings.folder:
        return Path(settings.folder).expanduser().resolve()
    root = os.environ.get(VARIABLE)
    return Path(root).expanduser().resolve() / name if root and (Path(root) / name).is_dir() else None


def digests(config: Config, parts: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of the weights of each part, see :func:`ipfvr.weights.needs.digest_of`."""
    return {part: digest_of(getattr(config.weights, part)) for part in parts}
