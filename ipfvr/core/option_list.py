"""A text list of every option with its default and its comment."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from ipfvr.core.options import Config

_WIDTH, _KEY = 118, 38


def option_list(sections: Sequence[str]) -> str:
    """Return the options of some sections, one or more lines for each: ``key=default`` and its description.

    The description is the comment beside or above the option in the source.

    Args:
        sections: names in :class:`~ipfvr.core.options.Config`.
    """
    hints, lines = get_type_hints(Config), []
    for section in sections:
        for key, default, comment in _options(hints[section], f"{section}."):
            head = f"  {key}={default}"
            pad = " " * (_KEY + 2)
            text = textwrap.wrap(comment, _WIDTH - len(pad)) or [""]
            if len(head) > _KEY:
                lines.append(head)
            else:
                text[0] = f"{head:<{_KEY}}  {text[0]}"
            first = [] if len(head) > _KEY else [text.pop(0)]
            lines += [line.rstrip() for line in first + [pad + more for more in text] if line.strip()]
    return "\n".join(lines)


def _options(schema: type, prefix: str) -> Iterator[tuple[str, str, str]]:
    comments = _comments(schema)
    example = schema()
    for field in fields(schema):
        value = getattr(example, field.name)
        if is_dataclass(value):
            yield from _options(type(value), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, _shown(value), comments.get(field.name, "")


def _shown(value: object) -> str:
    """Return a value as it is written on a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _comments(schema: type) -> dict[str, str]:
    """Return the comment beside each field of a dataclass, else the lines of comment right above it."""
    lines = textwrap.dedent(inspect.getsource(schema)).splitlines()
    found: dict[str, str] = {}
    for node in ast.parse("\n".join(lines)).body[0].body:
        if isinstance(node, ast.AnnAssign):
            beside = lines[node.end_lineno - 1][node.end_col_offset :].partition("#")[2]
            above: list[str] = []
            number = node.lineno - 2
            while lines[number].strip().startswith("#"):
                above.insert(0, lines[number].strip(" #"))
                number -= 1
            found[node.target.id] = beside.strip() or " ".join(above)
    return found
