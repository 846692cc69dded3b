"""Writing the positive and the negative prompt of a description, within the length of the text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import CLIPTokenizer

from ipfvr.conditioning.attributes import EMOTION_WORDS, WORDS, compose_sentence, false_words, person_words
from ipfvr.conditioning.language import rewrite
from ipfvr.core.choices import Composers
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config, PromptConfig
from ipfvr.models.text import byte_tokenizer, load_tokenizer
from ipfvr.weights.registry import locate

LEAST_SURE_OF_SEX = 0.9  # the lowest prompt.sex_from
# Where the network gives one of these 0.9 or more, fewer than 95 % of the pictures that it was trained on have it
# (docs/mini.md). A prompt.yaml may name it; the negative prompt may deny it.
NEVER_READ = frozenset(
    {"5_o_Clock_Shadow", "Chubby", "Double_Chin", "Gray_Hair", "Mustache", "Oval_Face", "Pointy_Nose"}
)
PERSON = ("Male", "Young")  # the noun of the sentence, never dropped
# The order in which attributes are named when there is no room for all: what tells people apart before what many
# have; judgements, and what belongs to the picture rather than to the person, last. The last are dropped first.
# fmt: off
ORDER = (
    "Male", "Young", "Bald", "Eyeglasses", "Gray_Hair", "Blond_Hair", "Black_Hair", "Brown_Hair", "Mustache", "Goatee",
    "No_Beard", "5_o_Clock_Shadow", "Sideburns", "Bangs", "Receding_Hairline", "Wearing_Hat", "Chubby", "Double_Chin",
    "Smiling", "Mouth_Slightly_Open", "Big_Nose", "Pointy_Nose", "Big_Lips", "Narrow_Eyes", "Bags_Under_Eyes",
    "Bushy_Eyebrows", "Arched_Eyebrows", "Wavy_Hair", "Straight_Hair", "Pale_Skin", "Rosy_Cheeks", "High_Cheekbones",
    "Oval_Face", "Heavy_Makeup", "Wearing_Lipstick", "Wearing_Earrings", "Wearing_Necklace", "Wearing_Necktie",
    "Attractive", "Blurry",
)
# fmt: on


@dataclass
class Description:
    """The description of a person.

    Attributes:
        attributes: probability of each attribute that was read, or 0 or 1 where it was given by hand.
        emotion: one of :data:`ipfvr.conditioning.emotion.EMOTIONS` or a word by hand; empty: none.
        emotions: probability of each emotion, where one was read.
        actions: such as ``speaking``; by hand.
        text: free text, by hand.
        notes: what could not be read, one line each.
        files: the weights that read it, by their part.
    """

    attributes: dict[str, float] = field(default_factory=dict)
    emotion: str = ""
    emotions: dict[str, float] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    text: str = ""
    notes: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)

    def truths(self, settings: PromptConfig) -> dict[str, bool]:
        """Return the attributes that are certain enough for a prompt, in CelebA's order, and whether they are true.

        True from ``true_from`` on, false up to ``false_to``; man from ``sex_from`` on, woman up to ``1 - sex_from``.
        Those of :data:`NEVER_READ` are true only where they were given by hand, which is a probability of 1.

        Raises:
            UserError: ``prompt.sex_from`` is below 0.9.
        """
        if settings.sex_from < LEAST_SURE_OF_SEX:
            raise UserError(
                f"prompt.sex_from is {settings.sex_from}; below {LEAST_SURE_OF_SEX} it would often be wrong"
            )
        truths = {}
        for name in WORDS:
            sex = name == "Male"
            true_from = settings.sex_from if sex else 1.0 if name in NEVER_READ else settings.true_from
            false_to = 1 - settings.sex_from if sex else settings.false_to
            probability = self.attributes.get(name)
            if probability is not None and (probability >= true_from or probability <= false_to):
                truths[name] = probability >= true_from
        return truths


@dataclass
class Prompts:
    """The words for the two text streams, and what became of every attribute that was known.

    Attributes:
        positive: what the face is, and quality words.
        negative: what it is not, and negative quality words.
        tokens: lengths of ``positive`` and ``negative``, start and end counted.
        limit: the most that the text encoder reads.
        said: the attributes in ``positive``.
        denied: the attributes in ``negative``.
        dropped: attributes and quality words for which there was no room, by ``positive`` and ``negative``.
        unsure: attributes between ``prompt.false_to`` and ``prompt.true_from``.
        implied: false attributes that are not denied because that would tell nothing (:func:`false_words`).
        notes: notes that a user can act upon, one line each.
        asides: notes that a user cannot act upon, one line each.
    """

    positive: str
    negative: str
    tokens: dict[str, int]
    limit: int
    said: list[str]
    denied: list[str]
    dropped: dict[str, list[str]]
    unsure: list[str]
    implied: list[str]
    notes: list[str]
    asides: list[str]


def compose(description: Description, config: Config) -> Prompts:
    """Put a description into words.

    The template's sentence comes first. While a prompt is too long, attributes are dropped from the end of
    :data:`ORDER`, then quality words from the end. A language model, where one is configured, gets the sentence
    that is left; its own is taken only when it holds every attribute and fits.

    Args:
        description: of the person.
        config: its ``prompt`` section and the text encoder's tokenizer and length.

    Raises:
        UserError: emotion, actions and text alone are too long; a language model that is not configured.
    """
    settings, tokenizer, limit = config.prompt, make_tokenizer(config), config.text.max_length
    truths = description.truths(settings)
    spoken = (description.emotion, description.actions, description.text)
    person = {name: true for name, true in truths.items() if name in PERSON}
    true = [name for name in ORDER if truths.get(name) and name not in PERSON]
    denials = false_words(truths)
    false = [name for name in ORDER if name in denials and description.attributes[name] <= settings.false_to]
    quality, bad = _phrases(settings.quality), _phrases(settings.negative)

    def sentence(names: Sequence[str]) -> str:
        if not (truths or any(spoken)):
            return settings.positive
        return compose_sentence({n: t for n, t in truths.items() if n in names or n in person}, *spoken)

    def fits(text: str) -> bool:
        return count_tokens(tokenizer, text) <= limit

    if not fits(sentence([])):
        raise UserError(
            f"the emotion, actions and text of the prompt take {count_tokens(tokenizer, sentence([]))} tokens, the "
            f"text encoder reads {limit}: shorten the text"
        )
    stated, good = _fit(true, quality, lambda names, words: fits(_join([sentence(names), *words])))
    denied, bad_left = _fit(false, bad, lambda names, words: fits(_join([*(denials[n] for n in names), *words])))
    notes, first = list(description.notes), sentence(stated)
    if settings.compose != Composers.template:
        looks = EMOTION_WORDS.get(description.emotion, description.emotion)
        phrases = [person_words(person), *(WORDS[n][1] for n in stated), looks, *description.actions, description.text]
        answer, reason = rewrite(first, [p for p in phrases if p], settings)
        if answer and not fits(_join([answer, *good])):
            reason = f"the language model's sentence takes more than {limit} tokens"
        if reason:
            notes.append(f"{reason}: the template's sentence is used")
        else:
            first = answer
    dropped = {
        "positive": [n for n in true if n not in stated] + quality[len(good) :],
        "negative": [n for n in false if n not in denied] + bad[len(bad_left) :],
    }
    asides = [
        f"no room in the {limit} tokens of the {stream} prompt for: {', '.join(names)}"
        for stream, names in dropped.items()
        if names
    ]
    positive, negative = _join([first, *good]), _join([*(denials[n] for n in denied), *bad_left])
    return Prompts(
        positive,
        negative,
        {"positive": count_tokens(tokenizer, positive), "negative": count_tokens(tokenizer, negative)},
        limit,
        [n for n in PERSON if person.get(n) or (n == "Male" and n in person)] + stated,
        denied,
        dropped,
        [n for n in WORDS if n in description.attributes and n not in truths],
        [n for n, t in truths.items() if not t and n not in denials],
        notes,
        asides,
    )


def make_tokenizer(config: Config) -> CLIPTokenizer:
    """Return the tokenizer that ``weights.tokenizer`` names."""
    name = config.weights.tokenizer
    return load_tokenizer(locate(name)) if name else byte_tokenizer()


def count_tokens(tokenizer: CLIPTokenizer, text: str) -> int:
    """Tokens of a text with start and end, not cut."""
    return len(tokenizer(text).input_ids)


def _fit(
    names: Sequence[str], words: Sequence[str], fits: Callable[[Sequence[str], Sequence[str]], bool]
) -> tuple[list[str], list[str]]:
    """Drop names from the end, then words from the end, until they fit."""
    names, words = list(names), list(words)
    while (names or words) and not fits(names, words):
        (names or words).pop()
    return names, words


def _phrases(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _join(parts: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part)
