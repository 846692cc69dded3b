"""What is to be restored, and for whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ipfvr.core.options import Config

SCALES = (1, 2, 4)
OTHERS = ("leave", "restore")


@dataclass(frozen=True)
class Person:
    """Somebody to look for.

    Attributes:
        name: empty: the one person of a job without names.
        references: pictures of the person.
        lora: the person's LoRA folder; empty: none of their own.
        prompt: a prompt.yaml with words by hand; empty: none of their own.
        learned: the LoRA is made of the references and nothing else.
    """

    name: str
    references: tuple[Path, ...] = ()
    lora: str = ""
    prompt: str = ""
    learned: bool = False

    def config(self, config: Config) -> Config:
        """The configuration with the person's own LoRA and words."""
        weights = replace(config.weights, lora=self.lora or config.weights.lora)
        return replace(config, weights=weights, prompt=replace(config.prompt, file=self.prompt or config.prompt.file))


@dataclass(frozen=True)
class Job:
    """One restoration.

    Attributes:
        source: the low-quality video.
        output: the restored video; its JSON lies beside it, and its page where one is written.
        references: pictures of the one person without a name.
        people: people with names; not together with ``references``.
        others: what becomes of faces of nobody that was named: ``leave`` or ``restore``; empty: left alone where
            there are references, restored where there are none.
        aligned: the source is a square aligned crop.
        crop: write the main face's restored square instead of the whole frame.
        scale: the frame is enlarged by this: 1, 2 or 4.
        strength: share of the restoration's change that is put onto the frames, 0 to 1.
        face: which face of a reference with several, counted from the left, from 1; 0: there is but one.
        part: (start, stop) frames to restore; None: all.
        learn: train a LoRA of everybody who has none from their references first.
    """

    source: Path
    output: Path
    references: tuple[Path, ...] = ()
    people: tuple[Person, ...] = ()
    others: str = ""
    aligned: bool = False
    crop: bool = False
    scale: int = 1
    strength: float = 1.0
    face: int = 0
    part: tuple[int, int] | None = None
    learn: bool = False

    @property
    def page(self) -> Path:
        """Where the page goes."""
        return self.output.with_suffix(".html")

    @property
    def everybody(self) -> tuple[Person, ...]:
        """Everybody to look for: the named, or the one without a name, or nobody."""
        return self.people or ((Person("", self.references),) if self.references else ())

    @property
    def square(self) -> bool:
        """Whether the output is the face's square."""
        return self.aligned or self.crop

    @property
    def restores_others(self) -> bool:
        """Whether faces of nobody that was named are restored."""
        return self.others == "restore" or (not self.others and not self.everybody)
