"""Names that come from outside: none of them becomes a path, an option or a second person."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ipfvr.core.choices import OTHERS
from ipfvr.core.errors import UserError

_LONGEST = 60  # characters of a name


def file_name(text: str) -> str:
    """Turn a file's name from outside into one without a path, of letters, digits, ``_``, ``-`` and ``.``.

    Example:
        >>> file_name("../../etc/passwd"), file_name("..\\\\My film (1).MP4"), file_name("-x.jpg"), file_name("..")
        ('passwd', 'My_film_1_.mp4', 'x.jpg', 'file')
    """
    last = unicodedata.normalize("NFKC", text).replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, ending = last.rpartition(".")
    if not (dot and re.fullmatch(r"[A-Za-z0-9]{1,8}", ending)):
        stem, dot, ending = last, "", ""
    stem = re.sub(r"[^\w-]+", "_", stem).lstrip("_-")[:_LONGEST]
    return (stem or "file") + dot + ending.lower()


def person_name(text: str) -> str:
    """Turn a person's name into one that the command line accepts: letters, digits, spaces, ``_``, ``-`` and ``'``.

    Raises:
        UserError: nothing is left of it, or the command line knows it as something else.

    Example:
        >>> person_name("  J. O'Neill=x/../y ")
        "J O'Neillxy"
    """
    # Imported here: the page's helpers are imported without the configuration.
    from ipfvr.core.config import all_keys

    kept = re.sub(r"[^\w '-]", "", unicodedata.normalize("NFKC", text))
    name = " ".join(kept.split()).strip("-'_ ")[:_LONGEST]
    if not name:
        said = f"'{text}' is no name" if text.strip() else "a name is missing"
        raise UserError(f"{said}: give one of letters")
    if name == OTHERS or name in all_keys():
        raise UserError(f"'{name}' means something else to the command line: give another name")
    return name


def check_names(names: Sequence[str]) -> None:
    """Check that no two people have one name.

    Raises:
        UserError: two people have one name.
    """
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two people are called {name}: give each a name of their own")


def without_folder(message: object, folder: Path) -> str:
    """Remove the app's own folders from a sentence: a visitor knows files by their names alone."""
    text = " ".join(str(message).split())
    return re.sub(re.escape(str(folder)) + r"/(?:[^\s,;:'\"]*/)?", "", text)
