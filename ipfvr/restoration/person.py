"""A person to be restored: the one way from pictures and words of somebody to restored squares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.conditioning.face2text import with_words
from ipfvr.conditioning.prompt_file import ByHand
from ipfvr.core.options import Config
from ipfvr.diffusion.conditions import Conditions
from ipfvr.diffusion.long_video import ClipMemory
from ipfvr.restoration.restorer import Progress, Restorer
from ipfvr.video.clips import ClipWindow

_EXPRESSIONS = 5  # frames of a video in which a person's expression is read


@dataclass(frozen=True)
class PersonRestorer:
    """A restorer with what it knows of one person.

    Attributes:
        restorer: with the person's LoRA in its networks, where there is one.
        conditions: the person's words and references, as the network is shown them.
        config: the configuration with the person's words in it.
        words: the words and what they were made of, ready for JSON but for ``files``; empty: the configuration's own.
    """

    restorer: Restorer
    conditions: Conditions
    config: Config
    words: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """The weights that were loaded, for the networks and to read the words, by part."""
        readers = {part: Path(path) for part, path in self.words.get("files", {}).items()}
        return {**self.restorer.networks.files, **readers}

    @property
    def notes(self) -> list[str]:
        """What a user can act upon of how the words came about, a line each."""
        return list(self.words.get("notes", ()))

    @property
    def asides(self) -> list[str]:
        """What a user can do nothing about, a line each."""
        return list(self.words.get("asides", ()))

    def alone(self) -> PersonRestorer:
        """The same restorer and the same words, without the references."""
        return replace(self, conditions=self.restorer.conditions((), self.config.prompt))

    def restore(self, low: np.ndarray, frames: Sequence[int] | None = None) -> np.ndarray:
        """Restore one clip by itself, see :meth:`~ipfvr.restoration.restorer.Restorer.restore`."""
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
        """Restore crops as they come, see :meth:`~ipfvr.restoration.restorer.Restorer.restore_stream`."""
        return self.restorer.restore_stream(
            crops, windows, self.conditions, seed=seed, progress=progress, memory=memory
        )


def prepare_person(
    restorer: Restorer,
    references: Sequence[np.ndarray] = (),
    by_hand: ByHand | None = None,
    expressions: Sequence[np.ndarray] = (),
    words: Mapping[str, Any] | None = None,
) -> PersonRestorer:
    """Tell a restorer of a person.

    Args:
        restorer: with the person's LoRA, where there is one.
        references: aligned crops (size, size, 3) of the person's pictures, uint8 RGB, size = ``video.size``.
        by_hand: what a ``prompt.yaml`` says of the person.
        expressions: aligned crops of the video to restore, in which the expression is read.
        words: those of an earlier run, which then are not composed anew; None: they are composed.

    Raises:
        UserError: weights that read the words or the pictures cannot be used.
    """
    config = restorer.config
    if words is None:
        config, words = with_words(config, references, by_hand, expressions)
    else:
        spoken = {key: words[key] for key in ("positive", "negative") if key in words}
        config = replace(config, prompt=replace(config.prompt, **spoken))
    return PersonRestorer(restorer, restorer.conditions(references, config.prompt), config, words)


def expression_frames(frames: Sequence[int] | np.ndarray) -> list[int]:
    """The few of a person's frames in which the expression is read: spread over all of them, rising."""
    picks = np.linspace(0, len(frames) - 1, _EXPRESSIONS).round().astype(int)
    return sorted({int(frames[i]) for i in picks})
