"""The recogniser that scores likeness in a table: ``weights.recogniser``, else a shipped one."""

from __future__ import annotations

from typing import NamedTuple

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.weights.registry import locate, shipped

# Two recognisers are shipped. This is the one that the reward of a LoRA does not use by default.
FALLBACK = "mini/recogniser"


class Judge(NamedTuple):
    """The recogniser that scores likeness.

    Attributes:
        name: its name in the weights registry, or a path.
        note: why it is not independent of what it scores; empty: no training has used it.
    """

    name: str
    note: str


def choose_judge(config: Config) -> Judge:
    """Choose the recogniser behind IDS, with a note if a training of the scored networks has used it.

    Args:
        config: its options ``weights.recogniser`` and ``reward.recogniser`` are used.
    """
    requested, reason = config.weights.recogniser, ""
    try:
        locate(requested)
        name = requested
    except UserError as error:
        name, reason = FALLBACK, f" It replaces {requested}, whose file is missing: {error}"
    uses = ["mini was trained with it"] if name in shipped() else []
    uses += ["the reward of each LoRA uses it"] if name == config.reward.recogniser else []
    if not uses:
        return Judge(name, "")
    return Judge(name, f"Likeness is scored by {name}, which is not independent: {', and '.join(uses)}.{reason}")
