"""The restorer of one person, prepared from the person's pictures and words; every caller uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.conditioning.face2text import with_words
from ipfvr.conditioning.prompt_file import PromptFile
from ipfvr.core.options import Config
from ipfvr.diffusion.conditions import Conditions
from ipfvr.diffusion.long_video import ClipMemory
from ipfvr.restoration.restorer import Progress, Restorer
from ipfvr.video.clips import ClipWindow

_EXPRESSIONS = 5  # frames of a video that show a person's expression


@dataclass(frozen=True)
class PersonRestorer:
    """A restorer with the conditions of one person.

    Attributes:
        restorer: the restorer, whose networks include the person's LoRA if there is one.
        conditions: the embeddings of the person's words and references that the network sees.
        config: the configuration with the person's words.
        words: the words and what they were made from, as JSON values except ``files``; empty: the configuration's own.
    """

    restorer: Restorer
    conditions: Conditions
    config: Config
    words: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """The weights that were loaded for the networks and for the words, by part."""
        readers = {part: Path(path) for part, path in self.words.get("files", {}).items()}
        return {**self.restorer.networks.files, **readers}

    @property
    def notes(self) -> list[str]:
        """Notes on the words that a user can act upon, one line each."""
        return list(self.words.get("notes", ()))

    @property
    def asides(self) -> list[str]:
        """Notes on the words that a user cannot act upon, one line each."""
        return list(self.words.get("asides", ()))

    def alone(self) -> PersonRestorer:
        """Return the same restorer with the same words, but without the references."""
        return replace(self, conditions=self.restorer.conditions((), self.config.prompt))

    def restore(self, low: np.ndarray, frames: Sequence[int] | None = None) -> np.ndarray:
        """Restore a single clip, see :meth:`~ipfvr.restoration.restorer.Restorer.restore`."""
        return self.restorer.restore(low, self.conditions, frames)

    def restore_stream(
        self,
        crops: Iterable[tuple[int, np.ndarray]],
        windows: Sequence[ClipWindow],
        *,
        seed: int | None = None,
        progress: Progress | None = None,
        memory: ClipMemory | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Restore a stream of crops, see :meth:`~ipfvr.restoration.restorer.Restorer.restore_stream`."""
        return self.restorer.restore_stream(
            crops, windows, self.conditions, seed=seed, progress=progress, memory=memory
        )


def prepare_person(
    restorer: Restorer,
    references: Sequence[np.ndarray] = (),
    by_hand: PromptFile | None = None,
    expressions: Sequence[np.ndarray] = (),
    words: Mapping[str, Any] | None = None,
) -> PersonRestorer:
    """Prepare a restorer for one person.

    Args:
        restorer: the restorer, whose networks include the person's LoRA if there is one.
        references: aligned crops (size, size, 3) of the person's pictures, uint8 RGB, size = ``video.size``.
        by_hand: the content of the person's ``prompt.yaml``.
        expressions: aligned crops of the video to restore, which show the expression.
        words: the words of an earlier run, which are used again; None: the words are composed now.

    Raises:
        UserError: the weights for the words or the pictures cannot be used.
    """
    config = restorer.config
    if words is None:
        config, words = with_words(config, references, by_hand, expressions)
    else:
        prompts = {key: words[key] for key in ("positive", "negative") if key in words}
        config = replace(config, prompt=replace(config.prompt, **prompts))
    return PersonRestorer(restorer, restorer.conditions(references, config.prompt), config, words)


def expression_frames(frames: Sequence[int] | np.ndarray) -> list[int]:
    """Choose the few frames that show a person's expression, spread over all frames, in rising order."""
    picks = np.linspace(0, len(frames) - 1, _EXPRESSIONS).round().astype(int)
    return sorted({int(frames[i]) for i in picks})
