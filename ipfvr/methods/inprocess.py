"""The methods of this package: bicubic, ours, and our base without IP-FVR."""

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
    """Bicubic enlargement of the input, the baseline for every method."""

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
    """This package's restorer, which uses the references, LoRA and words that a case gives.

    The networks are loaded once and kept as long as cases have the same LoRA.

    Args:
        name: the name of the row.
        title: the name in the paper's tables.
        family: see :class:`ipfvr.methods.base.Method`.
        config: the restorer's configuration; each case gives its own seed, LoRA and words.
        personal: whether to use the references, LoRA and words of a case.
    """

    licence = "Apache-2.0 (code); the weights' own: python -m ipfvr.weights"

    def __init__(self, name: str, title: str, family: str, config: Config, personal: bool = True) -> None:
        self.name, self.title, self.family = name, title, family
        self.config, self.personal = config, personal
        self._restorer: Restorer | None = None
        self._detector: Detector | None = None

    def missing(self) -> str | None:
        """Return a line on the first missing file of weights; None: all are there."""
        return next(iter(absent(self.config, needed_parts(self.config)).values()), None)

    def settings(self) -> dict[str, Any]:
        """See :class:`ipfvr.methods.base.Method`."""
        return method_settings(self.name, self.config)

    def restore(self, case: Case, output: Path) -> Report:
        """See :class:`ipfvr.methods.base.Method`."""
        began = time.perf_counter()
        if case.size != self.config.video.size:
            raise UserError(
                f"{self.name} restores faces of {self.config.video.size} pixels (video.size), but the case {case.name} "
                f"needs {case.size}"
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
            notes.append("weights.adapter is empty, so the network does not see the reference")
        seconds, command = time.perf_counter() - began, command_line(self.name, case, output)
        return Report(seconds, len(low), tuple(notes), person.files, command)

    def person(self, case: Case, low: np.ndarray) -> PersonRestorer:
        """Prepare the restorer of the person of a case, with the references, LoRA and words that the case gives.

        Args:
            case: names references, LoRA and words.
            low: (F, h, h, 3) the frames of the case, which show the expression.
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
            self._restorer = None  # freed before the next is made: two may not fit into memory
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
    """Return the configuration of VEnhancer, our base without IP-FVR.

    It has no image prompt and no LoRA, and its prompt is the plain one with quality words. It uses classifier-free
    guidance instead of several streams, and restores clips independently, without overlap.
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
    """Return the command that runs a single case."""
    words = ["python", "-m", "ipfvr.methods", name, str(case.low), "--output", str(output), "--size", str(case.size)]
    if case.references:
        words += ["--reference", *map(str, case.references)]
    for option, path in (("--prompt", case.prompt), ("--lora", case.lora)):
        words += [option, str(path)] if path is not None else []
    return shlex.join([*words, f"seed={case.seed}"])
