"""Who may do without an option: results are kept by the hash of what they depend on, and of nothing else."""

from __future__ import annotations

from dataclasses import field, fields, is_dataclass
from typing import Any

CLIP = "clip"  # a clip that a method restores by itself
LORA = "lora"  # the training of a person's LoRA
_KEY = "without"


def without(*readers: str, **default: Any) -> Any:
    """A dataclass field on which nothing depends that ``readers`` make.

    Args:
        readers: :data:`CLIP`, :data:`LORA`.
        default: ``default`` or ``default_factory``, as of :func:`dataclasses.field`.
    """
    return field(metadata={_KEY: readers}, **default)


def read_by(reader: str, section: Any) -> dict[str, Any]:
    """The options that ``reader`` depends on, as plain values.

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
