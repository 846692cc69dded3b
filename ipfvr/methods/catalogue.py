"""The catalogue of methods by name."""

from __future__ import annotations

from difflib import get_close_matches

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config, ProgramConfig
from ipfvr.methods.base import Method
from ipfvr.methods.description import PROGRAMS, read_description
from ipfvr.methods.external import ExternalProgram
from ipfvr.methods.inprocess import Bicubic, Ours, base_config
from ipfvr.methods.pictures import NETWORKS, PictureNetwork
from ipfvr.methods.settings import OWN


def list_methods(config: Config | None = None) -> list[str]:
    """List the names of all methods: ours, networks, programs, and the programs that ``config`` describes."""
    described = [] if config is None else [name for name, own in config.methods.items() if own.description]
    return [*OWN, *NETWORKS, *sorted({*(path.stem for path in PROGRAMS.glob("*.yaml")), *described})]


def make_method(name: str, config: Config) -> Method:
    """Make the method of a name; no network is loaded yet.

    Args:
        name: one of :func:`list_methods`.
        config: the options of our restorer, and the folders of programs (``methods.<name>.folder``).

    Raises:
        UserError: the name or a key of ``methods`` is unknown, or a description cannot be read.
    """
    known = list_methods(config)
    for requested, place in ((name, ""), *((option, f"methods.{option}: ") for option in config.methods)):
        if requested not in known:
            nearest = get_close_matches(requested, known, 1, 0)[0]
            raise UserError(f"{place}there is no method '{requested}'; the nearest is '{nearest}'")
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
