"""The weights that a configuration needs: the only answer, for restorations, tables, trainings and hashes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ipfvr.core.choices import Detectors
from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config, FacesConfig
from ipfvr.weights.catalogue import ENTRIES
from ipfvr.weights.registry import find, locate

NETWORKS = ("vae", "text", "tokenizer", "denoiser", "lora")  # parts of ``weights`` that every restoration reads
WORDS = ("attributes", "emotion")  # those that read a person's words off pictures; restored without where missing
PACKS = ("buffalo_l", "antelopev2")  # of insightface, the first that is there
# Those that each image_prompt.source reads beside its adapter.
_ENCODERS = {
    "clip": ("image",),
    "recogniser": ("face_encoder",),
    "both": ("image", "face_encoder"),
    "appearance": ("face_encoder",),
}


def image_prompt_parts(config: Config) -> tuple[str, ...]:
    """Return the parts of ``weights`` that the image prompt of a configuration reads; none where it has no adapter."""
    return ("adapter", *_ENCODERS.get(config.image_prompt.source, ())) if config.weights.adapter else ()


def needed_parts(config: Config, references: bool = True) -> tuple[str, ...]:
    """Return the parts of ``weights`` that a configuration needs to restore anything.

    Args:
        config: names the weights.
        references: with the image prompt; False: of a method that sees no reference.
    """
    return (*NETWORKS, *image_prompt_parts(config)) if references else NETWORKS


def weight_files(config: Config, parts: Sequence[str]) -> dict[str, Path]:
    """Return the files behind those of ``parts`` that ``config.weights`` names.

    Raises:
        UserError: one of them is not there.
    """
    names = {part: getattr(config.weights, part) for part in parts}
    return {part: locate(name) for part, name in names.items() if name}


def absent(config: Config, parts: Sequence[str]) -> dict[str, str]:
    """Return the parts that ``config.weights`` names and whose files are missing, each with the reason in one line."""
    found = {}
    for part in parts:
        try:
            weight_files(config, (part,))
        except UserError as error:
            found[part] = str(error)
    return found


def detector_name(faces: FacesConfig) -> str:
    """Return the detector's name: ``yunet``, ``mini/centerface`` or one of :data:`PACKS`; ``auto`` prefers YuNet."""
    if faces.detector == Detectors.insightface:
        return next((name for name in PACKS if find(ENTRIES[name]) is not None), PACKS[0])
    if faces.detector == Detectors.centerface or (faces.detector == Detectors.auto and find(ENTRIES["yunet"]) is None):
        return "mini/centerface"
    return "yunet"


def detector_digests(faces: FacesConfig) -> dict[str, str]:
    """Return the SHA-256 of the files that determine where faces are found, by name."""
    names = (detector_name(faces), *(["mini/landmarks"] if faces.refine else []))
    return {name: digest_of(name) for name in names}


def digest_of(name: str) -> str:
    """Return the SHA-256 of weights by name or path; for a missing file a word that says so."""
    if not name:
        return ""
    try:
        return sha256(locate(name))
    except UserError:
        return f"missing {name}"
