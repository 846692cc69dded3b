"""The options that each kind of result depends on; the hash of a result covers only these."""

from __future__ import annotations

from dataclasses import field, fields, is_dataclass
from typing import Any

CLIP = "clip"  # a restored clip
LORA = "lora"  # the training of a person's LoRA
_KEY = "without"


def without(*readers: str, **default: Any) -> Any:
    """Return a dataclass field that does not change the results of ``readers``.

    Args:
        readers: :data:`CLIP`, :data:`LORA`.
        default: ``default`` or ``default_factory``, as for :func:`dataclasses.field`.
    """
    return field(metadata={_KEY: readers}, **default)


def read_by(reader: str, section: Any) -> dict[str, Any]:
    """Return the options that the results of ``reader`` depend on, as plain values.

    Args:
        reader: :data:`CLIP` or :data:`LORA`.
        section: a configuration, or a section of one.
    """
    found = {}
    for option in fields(section):
        if reader not in option.metadata.get(_KEY, ()):
            value = getattr(section, option.name)
            found[option.name] = read_by(reader, value) if is_dataclass(value) else value
    return found
