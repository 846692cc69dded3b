"""Describe the person of some pictures: attributes, emotion, prompts, and the file to edit them in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ipfvr.conditioning.prompt_file import read_by_hand, write_prompt
from ipfvr.core.errors import UserError
from ipfvr.core.files import check_writable
from ipfvr.core.options import Config
from ipfvr.faces.detect import make_detector
from ipfvr.faces.reference import reference_crop

if TYPE_CHECKING:
    from ipfvr.conditioning.words import Description, Prompts

_COLUMNS = 3  # attributes in a line


def describe_pictures(pictures: Sequence[Path], config: Config, face: int = 0, output: Path | None = None) -> str:
    """Describe the person of some pictures.

    Args:
        pictures: of one person.
        config: ``prompt``, ``weights``, ``faces`` and ``text`` are used.
        face: which face of a picture with several, counted from the left, from 1; 0: there is but one.
        output: the ``prompt.yaml`` to write, or None.

    Returns:
        What the verb prints.

    Raises:
        UserError: pictures without a face, a ``prompt.yaml`` that cannot be read or written.
    """
    if not pictures:
        raise UserError("no picture is given")
    if output:
        check_writable(output)
    by_hand = read_by_hand(pictures, config)
    detector = make_detector(config.faces)
    faces = [reference_crop(path, detector, config.video.size, face) for path in pictures]
    # Imported here: the user's mistakes are reported before the seconds that this takes.
    from ipfvr.conditioning.face2text import describe
    from ipfvr.conditioning.words import compose

    description = describe(faces, config, by_hand)
    prompts = compose(description, config)
    if output:
        spoken = {"emotion": description.emotion, "actions": description.actions, "text": description.text}
        write_prompt(output, description.attributes, description.truths(config.prompt), spoken)
    return show(description, prompts) + (f"\n\n{output}: to edit, then restore --prompt {output}" if output else "")


def show(description: Description, prompts: Prompts) -> str:
    """Return a description and its words as text: attributes by falling probability, with ``?`` where unsure."""
    ranked = sorted(description.attributes.items(), key=lambda item: -item[1])
    cells = [f"{name:<20} {p:4.2f}{' ?' if name in prompts.unsure else '  '}" for name, p in ranked]
    rows = -(-len(cells) // _COLUMNS)
    lines = ["   ".join(cells[row::rows]).rstrip() for row in range(rows)]
    others = sorted(description.emotions.items(), key=lambda item: -item[1])
    read = f" ({', '.join(f'{name} {p:.2f}' for name, p in others[:3])})" if others else ""
    lines += ["", f"emotion: {description.emotion or 'none'}{read}"]
    if description.actions:
        lines.append(f"actions: {', '.join(description.actions)}")
    for stream, text in (("positive", prompts.positive), ("negative", prompts.negative)):
        lines += ["", f"{stream} prompt, {prompts.tokens[stream]} of {prompts.limit} tokens:", f"  {text}"]
    unspoken = [("unsure, in neither", prompts.unsure), ("false and not informative, in neither", prompts.implied)]
    lines += ["", *(f"{why}: {', '.join(names)}" for why, names in unspoken if names)]
    lines += [f"note: {note}" for note in [*prompts.notes, *prompts.asides]]
    return "\n".join(lines).rstrip()
