"""The rows there are, by name."""

from __future__ import annotations

from difflib import get_close_matches

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config, ProgramConfig
from ipfvr.methods.base import Method
from ipfvr.methods.description import PROGRAMS, read_description
from ipfvr.methods.external import ExternalProgram
from ipfvr.methods.inprocess import Bicubic, Ours, base_config
from ipfvr.methods.pictures import NETWORKS, PictureNetwork

OWN = ("bicubic", "ipfvr", "venhancer")


def list_methods(config: Config | None = None) -> list[str]:
    """Names of the rows: ours, networks run in process, programs; with ``config`` those of its own descriptions too."""
    described = [] if config is None else [name for name, own in config.methods.items() if own.description]
    return [*OWN, *NETWORKS, *sorted({*(path.stem for path in PROGRAMS.glob("*.yaml")), *described})]


def make_method(name: str, config: Config) -> Method:
    """The row of a name; nothing is loaded yet.

    Args:
        name: one of :func:`list_methods`.
        config: of our restorer, and where programs lie (``methods.<name>.folder``).

    Raises:
        UserError: an unknown name, or options of one; a description that cannot be read.
    """
    known = list_methods(config)
    for wanted, place in ((name, ""), *((option, f"methods.{option}: ") for option in config.methods)):
        if wanted not in known:
            nearest = get_close_matches(wanted, known, 1, 0)[0]
            raise UserError(f"{place}there is no method '{wanted}'; the nearest is '{nearest}'")
    if name == "bicubic":
        return Bicubic()
    if name == "ipfvr":
        return Ours("ipfvr", "Ours", "video, by reference", config)
    if name == "venhancer":
        return Ours("venhancer", "VEnhancer (our base)", "video", base_config(config), personal=False)
    settings = config.methods.get(name, ProgramConfig())
    if name in NETWORKS:
        return PictureNetwork(name, config)
    path = settings.description or PROGRAMS / f"{name}.yaml"
    return ExternalProgram(name, read_description(path), settings)
