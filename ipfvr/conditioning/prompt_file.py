"""``prompt.yaml``: the description of a person that a user writes by hand (attributes, emotion, actions, free text)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ipfvr.conditioning.attributes import EXPRESSIONS, WORDS, check_attribute
from ipfvr.core.config import load_yaml
from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config

NAME = "prompt.yaml"


@dataclass
class PromptFile:
    """The content of a ``prompt.yaml``.

    Attributes:
        attributes: CelebA names to truth; None: the prompts leave it out, whatever the pictures show.
        emotion: a word that follows "looking"; empty: none; None: the one that is read.
        actions: such as ``speaking``.
        text: put last.
    """

    attributes: dict[str, bool | None] = field(default_factory=dict)
    emotion: str | None = None
    actions: list[str] = field(default_factory=list)
    text: str = ""


def read_prompt(path: str | Path) -> PromptFile:
    """Read a ``prompt.yaml``.

    Raises:
        UserError: no such file, not YAML, a key or an attribute that does not exist (the line names the nearest), a
            value of the wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no prompt file {path}; python -m ipfvr.describe PICTURE --output {path} writes one")
    content = OmegaConf.to_container(load_yaml(path, "prompt file"))
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values, not a list")
    known = [f.name for f in fields(PromptFile)]
    for key in content:
        if key not in known:
            nearest = (get_close_matches(str(key), known, 1, 0) or known)[0]
            raise UserError(f"{path}: unknown key '{key}'; the nearest valid one is '{nearest}'")
    attributes = content.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise UserError(f"{path}: 'attributes' must hold names and true or false, such as Smiling: true")
    for name, value in attributes.items():
        check_attribute(str(name), str(path))
        if value is not None and not isinstance(value, bool):
            raise UserError(f"{path}: attribute '{name}' must be true, false or null, not '{value}'")
    actions = content.get("actions") or []
    actions = [actions] if isinstance(actions, str) else actions
    if not isinstance(actions, list):
        raise UserError(f"{path}: 'actions' must be a list, such as [speaking]")
    emotion = content.get("emotion")
    return PromptFile(
        {name: attributes[name] for name in WORDS if name in attributes},
        None if emotion is None else str(emotion).strip(),
        [str(action).strip() for action in actions],
        str(content.get("text") or "").strip().rstrip("."),
    )


def find_prompt(pictures: Sequence[Path]) -> Path | None:
    """Find the person's ``prompt.yaml``: beside a picture, or above its folder ``reference``."""
    for picture in pictures:
        folders = [picture.parent, *([picture.parent.parent] if picture.parent.name == "reference" else [])]
        for folder in folders:
            if (folder / NAME).is_file():
                return folder / NAME
    return None


def read_by_hand(pictures: Sequence[Path], config: Config) -> PromptFile | None:
    """Read the description by hand: ``prompt.file``, else the ``prompt.yaml`` of the person's folder, else nothing.

    Raises:
        UserError: as :func:`read_prompt`.
    """
    if not config.prompt.describe:
        return None
    path = _chosen(pictures, config.prompt.file)
    return read_prompt(path) if path else None


def prompt_digest(pictures: Sequence[Path], file: str) -> str:
    """SHA-256 of the file that :func:`read_by_hand` would read, ``file`` being ``prompt.file``; empty without one."""
    path = _chosen(pictures, file)
    return sha256(path) if path is not None and path.is_file() else ""


def _chosen(pictures: Sequence[Path], file: str) -> Path | None:
    return Path(file) if file else find_prompt(pictures)


def write_prompt(
    path: str | Path, attributes: Mapping[str, float], truths: Mapping[str, bool], spoken: Mapping[str, Any]
) -> None:
    """Write a ``prompt.yaml`` to edit, with the probabilities as comments.

    Attributes that are not sure, and the expression, which belongs to the picture and not to the person, are there
    behind a ``#``.

    Args:
        path: of the file.
        attributes: probability of each attribute.
        truths: the attributes that enter a prompt, and whether they are true.
        spoken: ``emotion``, ``actions`` and ``text``.
    """
    lines = [
        "# The description of a person: edit it, and pass it to restore with --prompt. A line behind # has no",
        "# effect: unsure attributes are then read from the references, the expression and the emotion from the video.",
        "attributes:",
    ]
    for name, probability in attributes.items():
        aside = "" if name in truths and name not in EXPRESSIONS else "# "
        value = str(probability > 0.5).lower()
        lines.append(f"  {aside}{name}: {value}  # {probability:.2f}")
    emotion, actions, text = (OmegaConf.to_yaml({k: spoken[k]}).strip() for k in ("emotion", "actions", "text"))
    lines += [f"# {emotion}", actions, text]
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
