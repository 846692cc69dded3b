"""The 40 CelebA attributes and the sentence that names them (Section 3.2, Face2Text)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path

from ipfvr.core.errors import UserError

# Attribute -> (kind, words). "has": the face has it; "is": the face is it; "wears"; "noun": who it is.
WORDS: dict[str, tuple[str, str]] = {
    "5_o_Clock_Shadow": ("has", "a five o'clock shadow"),
    "Arched_Eyebrows": ("has", "arched eyebrows"),
    "Attractive": ("is", "attractive"),
    "Bags_Under_Eyes": ("has", "bags under the eyes"),
    "Bald": ("is", "bald"),
    "Bangs": ("has", "bangs"),
    "Big_Lips": ("has", "big lips"),
    "Big_Nose": ("has", "a big nose"),
    "Black_Hair": ("has", "black hair"),
    "Blond_Hair": ("has", "blond hair"),
    "Blurry": ("is", "blurry"),
    "Brown_Hair": ("has", "brown hair"),
    "Bushy_Eyebrows": ("has", "bushy eyebrows"),
    "Chubby": ("is", "chubby"),
    "Double_Chin": ("has", "a double chin"),
    "Eyeglasses": ("wears", "eyeglasses"),
    "Goatee": ("has", "a goatee"),
    "Gray_Hair": ("has", "gray hair"),
    "Heavy_Makeup": ("wears", "heavy makeup"),
    "High_Cheekbones": ("has", "high cheekbones"),
    "Male": ("noun", "man"),
    "Mouth_Slightly_Open": ("has", "an open mouth"),
    "Mustache": ("has", "a mustache"),
    "Narrow_Eyes": ("has", "narrow eyes"),
    "No_Beard": ("has", "no beard"),
    "Oval_Face": ("has", "an oval face"),
    "Pale_Skin": ("has", "pale skin"),
    "Pointy_Nose": ("has", "a pointy nose"),
    "Receding_Hairline": ("has", "a receding hairline"),
    "Rosy_Cheeks": ("has", "rosy cheeks"),
    "Sideburns": ("has", "sideburns"),
    "Smiling": ("is", "smiling"),
    "Straight_Hair": ("has", "straight hair"),
    "Wavy_Hair": ("has", "wavy hair"),
    "Wearing_Earrings": ("wears", "earrings"),
    "Wearing_Hat": ("wears", "a hat"),
    "Wearing_Lipstick": ("wears", "lipstick"),
    "Wearing_Necklace": ("wears", "a necklace"),
    "Wearing_Necktie": ("wears", "a necktie"),
    "Young": ("noun", "young"),
}


EXPRESSIONS = ("Mouth_Slightly_Open", "Smiling")  # what the moment shows, not the person
# The classes of the emotion network as words that follow "looking".
EMOTION_WORDS = {"disgust": "disgusted", "fear": "afraid", "surprise": "surprised"}

_BEARD = {"5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns"}
_MAKEUP = {"Heavy_Makeup", "Rosy_Cheeks", "Wearing_Earrings", "Wearing_Lipstick", "Wearing_Necklace"}
_HAIR = {"Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Straight_Hair", "Wavy_Hair"}
_NEVER_DENIED = {"Attractive", "Blurry", "No_Beard"}  # a judgement; among the quality words; "no" of "no" is lost


def compose_sentence(
    attributes: Mapping[str, bool], emotion: str = "", actions: Sequence[str] = (), text: str = ""
) -> str:
    """Return the attributes that are true, the emotion, the actions and free text, as one English sentence.

    Args:
        attributes: CelebA names to truth; names that are absent are not spoken of.
        emotion: a class of the emotion network or any word that follows "looking"; empty: not spoken of.
        actions: such as ``speaking``.
        text: what a person adds, put last.

    Returns:
        Such as ``a young woman, smiling, with brown hair and no beard, wearing lipstick, looking happy, speaking``.

    Raises:
        KeyError: a name that is not one of CelebA's 40.
    """
    phrases: dict[str, list[str]] = {"has": [], "is": [], "wears": [], "noun": []}
    for name, true in attributes.items():
        kind, words = WORDS[name]
        if true:
            phrases[kind].append(words)
    sentence = f"a {person_words(attributes)}"
    if phrases["is"]:
        sentence += ", " + ", ".join(phrases["is"])
    if phrases["has"]:
        sentence += ", with " + _enumerate(phrases["has"])
    if phrases["wears"]:
        sentence += ", wearing " + _enumerate(phrases["wears"])
    looks = [f"looking {EMOTION_WORDS.get(emotion, emotion)}"] if emotion else []
    return ", ".join([sentence, *looks, *actions, *([text] if text else [])])


def person_words(attributes: Mapping[str, bool]) -> str:
    """Return the noun for the person: ``young woman``, ``man``, ``person`` (where Male is not given) ..."""
    person = "person" if "Male" not in attributes else "man" if attributes["Male"] else "woman"
    return f"young {person}" if attributes.get("Young") else person


def false_words(attributes: Mapping[str, bool]) -> dict[str, str]:
    """Return the false attributes that are worth denying, to their words for a negative prompt.

    Left out are judgements and negations, and what follows from another attribute: beards of women, make-up of men,
    hair of the bald.
    """
    implied = set(_NEVER_DENIED)
    if "Male" in attributes:
        implied |= _MAKEUP if attributes["Male"] else _BEARD | {"Wearing_Necktie"}
    if attributes.get("Bald"):
        implied |= _HAIR
    return {
        name: WORDS[name][1].removeprefix("a ").removeprefix("an ")
        for name, true in attributes.items()
        if not true and name not in implied
    }


def check_attribute(name: str, where: str) -> None:
    """See that ``name`` is one of CelebA's 40.

    Raises:
        UserError: it is not; the line names the nearest.
    """
    if name not in WORDS:
        nearest = max(WORDS, key=lambda known: SequenceMatcher(None, name.lower(), known.lower()).ratio())
        raise UserError(f"{where}: there is no attribute '{name}'; the nearest of CelebA's 40 is '{nearest}'")


def read_attributes(path: str | Path) -> dict[str, dict[str, bool]]:
    """Attribute tables by picture, from a CSV whose header holds ``file`` and CelebA's names; 1 is true, -1 false.

    Returns:
        Keyed by ``<identity>/<file name>``.

    Raises:
        UserError: no such file, or columns that are missing.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no attribute table {path}")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and ("file" not in rows[0] or not set(WORDS) <= set(rows[0])):
        raise UserError(f"{path} must have a column 'file' and CelebA's 40 attributes")
    return {"/".join(Path(row["file"]).parts[-2:]): {name: int(row[name]) > 0 for name in WORDS} for row in rows}


def _enumerate(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
