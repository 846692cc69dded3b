"""The description of one restoration: the source, the output, the people and the options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ipfvr.core.options import Config

SCALES = (1, 2, 4)
TREATMENTS = ("leave", "restore")  # of the faces of people whom nobody named


@dataclass(frozen=True)
class Person:
    """A person to look for in the video.

    Attributes:
        name: the person's name; empty: the one person of a job without names.
        references: pictures of the person.
        lora: the folder of the person's own LoRA; empty: there is none.
        prompt: a prompt.yaml that a user wrote for this person; empty: there is none.
        learned: whether the LoRA was trained on the references alone.
    """

    name: str
    references: tuple[Path, ...] = ()
    lora: str = ""
    prompt: str = ""
    learned: bool = False

    def config(self, config: Config) -> Config:
        """Return the configuration with the person's own LoRA and words."""
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
        others: what happens to the faces of other people: ``leave`` or ``restore``; empty: they are left unchanged if
            there are references, and restored if there are none.
        aligned: whether the source is a square aligned crop.
        crop: write the main face's restored square instead of the whole frame.
        scale: the factor by which the frame is enlarged: 1, 2 or 4.
        strength: share of the restoration's change that is applied to the frames, 0 to 1.
        face: which face of a reference picture with several, counted from 1 on the left; 0: there is only one.
        part: (start, stop) frames to restore; None: all.
        learn: whether to train a LoRA from the references first, for each person who has none; None: as
            ``learn.always`` says.
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
    learn: bool | None = None

    @property
    def page(self) -> Path:
        """The path of the HTML page."""
        return self.output.with_suffix(".html")

    @property
    def everybody(self) -> tuple[Person, ...]:
        """All people to look for: the named ones, else the one without a name, else nobody."""
        return self.people or ((Person("", self.references),) if self.references else ())

    def learns(self, config: Config) -> bool:
        """Return whether LoRAs are trained from the references first."""
        return bool(self.everybody) and (config.learn.always if self.learn is None else self.learn)

    @property
    def square(self) -> bool:
        """Whether the output is the aligned face crop."""
        return self.aligned or self.crop

    @property
    def restores_others(self) -> bool:
        """Whether the faces of other people are restored too."""
        return self.others == "restore" or (not self.others and not self.everybody)
