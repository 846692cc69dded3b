"""What a row's result depends on beside its clip, for the hash of a finished cell; imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ipfvr.catalogue import ENTRIES
from ipfvr.config import config_to_dict
from ipfvr.errors import UserError
from ipfvr.options import Config
from ipfvr.registry import find, locate, sha256

PROGRAMS = Path(__file__).parent / "programs"  # a description a program
# Options that change nothing in a clip that is restored by itself.
IDLE = (
    "preset",
    "seed",
    "device",
    "people",
    "degradation",
    "data",
    "optimizer",
    "loss",
    "lora",
    "reward",
    "recogniser",
)
IDLE += ("train", "methods", "weights")
IDLE_VIDEO = ("crf", "preset")
READ = ("vae", "text", "tokenizer", "image", "denoiser", "adapter", "face_encoder", "lora", "attributes", "emotion")


def method_settings(name: str, config: Config) -> dict[str, Any]:
    """The options and the files of weights that the row ``name`` reads, as JSON values."""
    if name == "bicubic":
        return {"method": name}
    if name in ("ipfvr", "venhancer"):
        kept = {part: value for part, value in config_to_dict(config).items() if part not in IDLE}
        kept["video"] = {key: value for key, value in kept["video"].items() if key not in IDLE_VIDEO}
        return {"method": name, "options": kept, "weights": {part: digest(config, part) for part in READ}}
    own = config.methods.get(name)
    description = Path(own.description) if own is not None and own.description else PROGRAMS / f"{name}.yaml"
    settings: dict[str, Any] = {"method": name, "options": asdict(own) if own is not None else {}}
    if description.is_file():
        settings["description"] = sha256(description)
    return settings


def digest(config: Config, part: str) -> str:
    """SHA-256 of what ``weights.<part>`` names; of a file that is not there, a word that says so."""
    name = getattr(config.weights, part)
    entry = ENTRIES.get(name)
    try:
        path = (find(entry) if entry is not None else locate(name)) if name else None
    except UserError:
        path = None
    return sha256(path) if path is not None else f"missing {name}" if name else ""
