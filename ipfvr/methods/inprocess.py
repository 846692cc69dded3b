"""Rows that this package runs itself: bicubic, ours, and our base without IP-FVR."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.conditioning.prompt_file import read_prompt
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.core.pixels import resize_frame, resize_frames
from ipfvr.diffusion.long_video import plan_windows
from ipfvr.faces.detect import Detector, make_detector
from ipfvr.faces.reference import aligned_reference, middle_square
from ipfvr.methods.base import Case, Report, low_frames, write_frames
from ipfvr.methods.settings import method_settings
from ipfvr.restoration.person import PersonRestorer, expression_frames, prepare_person
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.reader import read_image
from ipfvr.weights.needs import absent, needed_parts


class Bicubic:
    """The input, enlarged: what every method has to beat."""

    name, title, licence, family = "bicubic", "Input (bicubic)", "none needed", "interpolation"

    def missing(self) -> str | None:
        """See :class:`ipfvr.methods.base.Method`."""
        return None

    def settings(self) -> dict[str, Any]:
        """See :class:`ipfvr.methods.base.Method`."""
        return method_settings(self.name, Config())

    def restore(self, case: Case, output: Path) -> Report:
        """See :class:`ipfvr.methods.base.Method`."""
        began = time.perf_counter()
        write_frames((resize_frame(frame, case.size, case.size) for frame in low_frames(case)), case, output)
        return Report(time.perf_counter() - began, case.frames, command=command_line(self.name, case, output))


class Ours:
    """This package's restorer on one clip: references, LoRA and words of the person, as far as the case has them.

    The networks are loaded once and kept as long as cases have the same LoRA.

    Args:
        name: the row's.
        title: as in the paper's tables.
        family: see :class:`ipfvr.methods.base.Method`.
        config: of the restorer; each case brings its own seed, LoRA and words.
        personal: False: what a case knows of the person is not looked at.
    """

    licence = "Apache-2.0 (code); the weights' own: python -m ipfvr.weights"

    def __init__(self, name: str, title: str, family: str, config: Config, personal: bool = True) -> None:
        self.name, self.title, self.family = name, title, family
        self.config, self.personal = config, personal
        self._restorer: Restorer | None = None
        self._detector: Detector | None = None

    def missing(self) -> str | None:
        """See :class:`ipfvr.methods.base.Method`: the first of the weights that is not there."""
        return next(iter(absent(self.config, needed_parts(self.config)).values()), None)

    def settings(self) -> dict[str, Any]:
        """See :class:`ipfvr.methods.base.Method`."""
        return method_settings(self.name, self.config)

    def restore(self, case: Case, output: Path) -> Report:
        """See :class:`ipfvr.methods.base.Method`."""
        began = time.perf_counter()
        if case.size != self.config.video.size:
            raise UserError(
                f"{self.name} restores faces of {self.config.video.size} pixels (video.size), the case {case.name} "
                f"asks for {case.size}"
            )
        if not self.personal:
            case = replace(case, references=(), lora=None, prompt=None)
        low = np.stack(list(low_frames(case)))
        person = self.person(case, low)
        windows = plan_windows([(0, len(low))], person.config)
        frames = (frame for _, frame in person.restore_stream(enumerate(low), windows, seed=case.seed))
        write_frames(frames, case, output)
        notes = person.notes + person.asides + person.restorer.left_out(person.conditions)
        if case.references and not person.conditions.references:
            notes.append("without weights.adapter the reference is not seen")
        seconds, command = time.perf_counter() - began, command_line(self.name, case, output)
        return Report(seconds, len(low), tuple(notes), person.files, command)

    def person(self, case: Case, low: np.ndarray) -> PersonRestorer:
        """What restores the person of a case, with the references, the LoRA and the words that the case has.

        Args:
            case: names references, LoRA and words.
            low: (F, h, h, 3) its frames, in which the expression is read.
        """
        describe = self.config.prompt.describe
        references = [self._reference(path) for path in case.references]
        by_hand = read_prompt(case.prompt) if case.prompt is not None and describe else None
        seen: list[np.ndarray] = []
        if references and describe:
            seen = list(resize_frames(low[expression_frames(range(len(low)))], case.size))
        return prepare_person(self._restorer_for(case), references, by_hand, seen)

    def _restorer_for(self, case: Case) -> Restorer:
        lora = str(case.lora) if case.lora is not None else self.config.weights.lora
        if self._restorer is None or self._restorer.config.weights.lora != lora:
            self._restorer = None  # before the next is made: two need not fit
            self._restorer = Restorer(replace(self.config, weights=replace(self.config.weights, lora=lora)))
        return self._restorer

    def _reference(self, path: Path) -> np.ndarray:
        if self._detector is None:
            self._detector = make_detector(self.config.faces)
        image, size = read_image(path), self.config.video.size
        if not self.config.faces.align_references:
            return middle_square(image, size)
        return aligned_reference(image, self._detector, size, path)


def base_config(config: Config) -> Config:
    """VEnhancer, our base without IP-FVR, as differences of configuration.

    No image prompt, no LoRA, no words on the person but its own plain prompt with its quality words; classifier-free
    guidance where ours has streams; clips one after another, each by itself, without overlap.
    """
    quality = f", {config.prompt.quality}" if config.prompt.quality else ""
    guider = "classifier_free" if config.sampler.guider == "multi_stream" else config.sampler.guider
    return replace(
        config,
        weights=replace(config.weights, adapter="", lora=""),
        prompt=replace(config.prompt, describe=False, file="", positive=config.prompt.positive + quality),
        sampler=replace(config.sampler, guider=guider),
        long_video=replace(config.long_video, blending="none", noise_sharing=False),
        video=replace(config.video, overlap=0),
    )


def command_line(name: str, case: Case, output: Path) -> str:
    """The command that runs one case by itself."""
    words = ["python", "-m", "ipfvr.methods", name, str(case.low), "--output", str(output), "--size", str(case.size)]
    if case.references:
        words += ["--reference", *map(str, case.references)]
    for option, path in (("--prompt", case.prompt), ("--lora", case.lora)):
        words += [option, str(path)] if path is not None else []
    return shlex.join([*words, f"seed={case.seed}"])
