"""Who judges likeness in a table: the recogniser of ``weights.recogniser``, else the one that is shipped."""

from __future__ import annotations

from typing import NamedTuple

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.weights.registry import locate, shipped

# Of the two that are shipped the one that no LoRA's reward listens to, unless reward.recogniser says so.
STAND_IN = "mini/recogniser"


class Judge(NamedTuple):
    """A recogniser.

    Attributes:
        name: in the weights registry, or a path.
        note: what a reader must know where it is not independent; empty: no training has listened to it.
    """

    name: str
    note: str


def choose_judge(config: Config) -> Judge:
    """The recogniser behind IDS; one that had a part in the training of what it judges has a note.

    Args:
        config: ``weights.recogniser`` and ``reward.recogniser`` are used.
    """
    wanted, reason = config.weights.recogniser, ""
    try:
        locate(wanted)
        name = wanted
    except UserError as error:
        name, reason = STAND_IN, f" It stands in for {wanted}, whose file is not here: {error}"
    by = ["mini was trained with it"] if name in shipped() else []
    by += ["each LoRA was, by the reward"] if name == config.reward.recogniser else []
    if not by:
        return Judge(name, "")
    return Judge(name, f"Likeness is judged by {name}, which is not independent: {', and '.join(by)}.{reason}")
