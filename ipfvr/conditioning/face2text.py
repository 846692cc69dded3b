"""Face2Text: from pictures of a person to the words of the two text streams (Section 3.2, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ipfvr.conditioning.attribute_network import load_attributes
from ipfvr.conditioning.attributes import EXPRESSIONS
from ipfvr.conditioning.emotion import load_emotion
from ipfvr.conditioning.prompt_file import PromptFile
from ipfvr.conditioning.words import Description, Prompts, compose
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config


def describe(
    faces: Sequence[np.ndarray],
    config: Config,
    by_hand: PromptFile | None = None,
    video_faces: Sequence[np.ndarray] = (),
) -> Description:
    """Read a person off pictures.

    Args:
        faces: aligned square crops of one person, uint8 RGB; none: only ``by_hand`` counts.
        config: its ``weights.attributes`` and ``weights.emotion``; empty ones are not read.
        by_hand: what a ``prompt.yaml`` says; it overrides what is read.
        video_faces: aligned crops of the video to restore. With them the emotion and the attributes of the
            expression are the video's, as in the paper, and all else the references'.

    Raises:
        UserError: the attributes' weights are not there or do not fit. Without the emotion's file the emotion is
            left out and ``notes`` says so.
    """
    description = Description()
    if faces and config.weights.attributes:
        reader = load_attributes(config.weights.attributes)
        description.attributes, description.files["attributes"] = reader.read(faces), reader.path
        if video_faces:
            seen = reader.read(video_faces)
            description.attributes.update({name: seen[name] for name in EXPRESSIONS})
    if faces and config.weights.emotion:
        try:
            judge = load_emotion(config.weights.emotion)
            description.emotions, description.files["emotion"] = judge.read(video_faces or faces), judge.path
            description.emotion = max(description.emotions, key=lambda name: description.emotions[name])
        except UserError as error:
            description.notes.append(f"the prompt names no emotion: {error}")
    if by_hand is not None:
        for name, true in by_hand.attributes.items():
            if true is None:
                description.attributes.pop(name, None)
            else:
                description.attributes[name] = float(true)
        description.emotion = description.emotion if by_hand.emotion is None else by_hand.emotion
        description.actions, description.text = list(by_hand.actions), by_hand.text
    return description


def with_words(
    config: Config,
    faces: Sequence[np.ndarray],
    by_hand: PromptFile | None = None,
    video_faces: Sequence[np.ndarray] = (),
) -> tuple[Config, dict[str, Any]]:
    """Return a configuration whose prompts describe the person, and the record of how they were made.

    The configuration is as it was, and the record empty, with ``prompt.describe=false`` or where nothing is known.

    Args:
        config: the configuration.
        faces, by_hand, video_faces: as of :func:`describe`.
    """
    if not config.prompt.describe or not (faces or by_hand):
        return config, {}
    description = describe(faces, config, by_hand, video_faces)
    prompts = compose(description, config)
    spoken = replace(config.prompt, positive=prompts.positive, negative=prompts.negative)
    return replace(config, prompt=spoken), record(description, prompts)


def record(description: Description, prompts: Prompts) -> dict[str, Any]:
    """Return a description and its words for JSON: probabilities to four digits."""
    content = {**asdict(description), **asdict(prompts)}
    for key in ("attributes", "emotions"):
        content[key] = {name: round(p, 4) for name, p in content[key].items()}
    return content
