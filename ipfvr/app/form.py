"""The values of the restoration's controls, as choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfvr.app.person import trained_loras
from ipfvr.app.server_state import ServerState
from ipfvr.core.errors import UserError

if TYPE_CHECKING:
    from ipfvr.app.choices import Look, PersonChoice
    from ipfvr.app.project import CardValues, Film, Project

CARDS = 6  # people who can be named; as many as ipfvr.app.project.SHOWN
DEINTERLACING = {
    "one picture of each two fields": "frame",
    "one picture of each field: the whole motion": "field",
    "leave it interlaced": "keep",
    "it is not interlaced": "ignore",
}
COLOURS = {
    "as the film has it": "auto",
    "for every player (4:2:0)": "420",
    "a colour for each pixel (4:4:4)": "444",
}
NO_LORA = "none"


@dataclass(frozen=True)
class Form:
    """The values of the window.

    Attributes:
        name, project: the window's project.
        number: of the film that is looked at.
        frame: that is looked at.
        chosen: of each person.
        look: of all of it.
    """

    name: str
    project: Project
    number: int
    frame: int
    chosen: list[PersonChoice]
    look: Look

    @property
    def film(self) -> Film:
        """The shown film."""
        return self.project.films[self.number]


def read_form(app: ServerState, values: Sequence[Any]) -> Form:
    """Read the form from the values of the controls.

    Args:
        app: the server's.
        values: as the window lists its controls: the project's name, film, frame; a value a card of restore, name,
            LoRA and words; then the fields of :class:`ipfvr.app.choices.Look` in :data:`LOOK`'s order.

    Raises:
        UserError: no project; words that are no ``prompt.yaml``.
    """
    # Imported here: the page opens without the seconds that this takes.
    from ipfvr.app.choices import Look, PersonChoice

    name, number, frame, *rest = values
    project = app.project(name)
    look = dict(zip(LOOK, rest[4 * CARDS :], strict=True))
    loras = trained_loras(app.jobs, app.settings.loras)
    chosen = [
        PersonChoice(
            card.name or f"person {n + 1}",
            bool(card.restore),
            loras.get(card.lora, ""),
            words_file(project.folder, n, card.words),
        )
        for n, card in enumerate(read_cards(values))
    ][: len(project.people)]
    number = min(int(number or 0), len(project.films) - 1)
    total = project.films[number].reader.info.frames
    first, last = int(look["first"] or 0), int(look["last"] or 0)
    settled = Look(
        strength=float(look["strength"]),
        scale=int(look["scale"]),
        steps=int(look["steps"]),
        interlaced=DEINTERLACING[look["interlaced"]],
        chroma=COLOURS[look["chroma"]],
        crf=int(look["crf"]),
        seed=int(look["seed"] or 0),
        face_only=bool(look["face_only"]),
        learn=bool(look["learn"]),
        others=bool(look["others"]),
        likeness=0.0 if abs(look["likeness"] - project.bound) < 1e-6 else float(look["likeness"]),
        first=min(first, total - 1),
        last=-1 if len(project.films) > 1 or last >= total - 1 else max(first, last),
    )
    return Form(name, project, number, min(int(frame or 0), total - 1), chosen, settled)


def read_cards(values: Sequence[Any]) -> list[CardValues]:
    """Read the cards from the values of :func:`read_form`, one for each person who can be named."""
    from ipfvr.app.project import CardValues

    kinds = [values[3 + n * CARDS : 3 + (n + 1) * CARDS] for n in range(4)]
    return [CardValues(*card) for card in zip(*kinds, strict=True)]


# The controls of the look, in the order of the window's list.
LOOK = (
    "strength",
    "steps",
    "scale",
    "chroma",
    "crf",
    "seed",
    "face_only",
    "learn",
    "others",
    "likeness",
    "first",
    "last",
    "interlaced",
)


def words_file(folder: Path, number: int, text: str | None) -> str:
    """Write the words of a card as a ``prompt.yaml`` and return its path; empty: the card has no words.

    Args:
        folder: of the project.
        number: of the person, from 0.
        text: what stands in the card.

    Raises:
        UserError: as :func:`ipfvr.conditioning.prompt_file.read_prompt`.
    """
    if not (text or "").strip():
        return ""
    from ipfvr.conditioning.prompt_file import read_prompt
    from ipfvr.core.files import atomic
    from ipfvr.core.hashes import digest

    # A job that waits keeps the words that it was started with: other words are another file.
    path = folder / f"words_{number + 1}_{digest(text)[:12]}.yaml"
    if not path.is_file():
        with atomic(path) as temporary:
            temporary.write_text(text)
    try:
        read_prompt(path)
    except UserError as error:
        path.unlink()
        raise UserError(f"the words of person {number + 1}: {str(error).removeprefix(f'{path}: ')}") from None
    return str(path)
