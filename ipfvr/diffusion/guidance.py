"""Guiders: which branches a denoising step runs, and how their predictions are combined.

A guider names its branches at a step; the sampler keeps the conditions of each branch, runs the network once for each
(:mod:`ipfvr.diffusion.streams`), and gives the predictions to :meth:`Guider.combine`. Another way of combining (more
branches, other weights) is another class here and a line in :func:`make_guider`.

A negative branch that was not run has no effect: the positive branch alone is returned exactly as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ipfvr.core.choices import Guiders
from ipfvr.core.errors import UserError
from ipfvr.core.options import SamplerConfig
from ipfvr.core.shapes import Float

# The branches of Eq. 12. The negative one of classifier-free guidance is that of the negative text.
POSITIVE = "positive"  # positive text, reference
NEGATIVE_TEXT = "negative_text"  # negative text, reference
NEGATIVE_VISUAL = "negative_visual"  # positive text, degraded reference


class Guider(Protocol):
    """A strategy that combines the predictions of one or more branches."""

    def branches(self, step: int) -> tuple[str, ...]:
        """Return the branches to run at a step of the schedule, always with the positive one."""
        ...

    def combine(self, predictions: Mapping[str, Float[Tensor, "b c f h w"]]) -> Float[Tensor, "b c f h w"]:
        """Combine the predictions of the branches that were run, each (B, C, F, h, w), to one."""
        ...


@dataclass(frozen=True)
class PositiveOnly:
    """No guidance: the positive branch alone, at the cost of one branch."""

    def branches(self, step: int) -> tuple[str, ...]:
        """Return the positive branch."""
        return (POSITIVE,)

    def combine(self, predictions: Mapping[str, Float[Tensor, "b c f h w"]]) -> Float[Tensor, "b c f h w"]:
        """Return the prediction of the positive branch."""
        return predictions[POSITIVE]


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (Ho and Salimans 2022), rescaled (Lin et al. 2023, section 3.4), as in VEnhancer.

    Attributes:
        weight: w; 1 is the positive branch alone, at the cost of one branch.
        rescale: phi, 0 (not at all) to 1 (the result has the positive branch's standard deviation).
    """

    weight: float
    rescale: float = 0.0

    def branches(self, step: int) -> tuple[str, ...]:
        """Return the positive branch and, unless w is 1, the negative text branch."""
        return (POSITIVE,) if self.weight == 1 else (POSITIVE, NEGATIVE_TEXT)

    def combine(self, predictions: Mapping[str, Float[Tensor, "b c f h w"]]) -> Float[Tensor, "b c f h w"]:
        """Compute g = v_neg + w (v_pos - v_neg), then g (phi std(v_pos) / std(g) + 1 - phi).

        Examples:
            >>> import torch
            >>> predictions = {POSITIVE: torch.full((1, 1, 1, 1, 1), 3.0), NEGATIVE_TEXT: torch.ones(1, 1, 1, 1, 1)}
            >>> ClassifierFree(weight=2).combine(predictions).item()
            5.0
        """
        positive, negative = predictions[POSITIVE], predictions.get(NEGATIVE_TEXT)
        if negative is None:
            return positive
        guided = negative + self.weight * (positive - negative)
        if not self.rescale:
            return guided
        ratio = _deviation(positive) / _deviation(guided).clamp(min=1e-12)
        return guided * (self.rescale * ratio + (1 - self.rescale))


@dataclass(frozen=True)
class MultiStream:
    """Multi-stream negative prompts (Section 3.5), which steer away from negative words and degraded pictures.

    Attributes:
        text: w_nt, the weight of the negative text; 0: this branch is not run.
        visual: w_nv, the weight of the degraded reference; 0: this branch is not run.
    """

    text: float = 0.5
    visual: float = 0.5

    def branches(self, step: int) -> tuple[str, ...]:
        """Return the positive branch and the negative ones whose weight is not 0.

        The visual branch comes before the text branch, because it shares the text of the positive one.
        """
        weights = {NEGATIVE_VISUAL: self.visual, NEGATIVE_TEXT: self.text}
        return (POSITIVE, *(name for name, weight in weights.items() if weight))

    def combine(self, predictions: Mapping[str, Float[Tensor, "b c f h w"]]) -> Float[Tensor, "b c f h w"]:
        """Compute Eq. 11: z~ = (1 + w_nt + w_nv) z_pos - w_nt z_nt - w_nv z_nv.

        The z are the network's predictions v. The equation is linear, so it holds for eps and z_0 too.

        Examples:
            >>> import torch
            >>> predictions = {POSITIVE: torch.full((1, 1, 1, 1, 1), 3.0), NEGATIVE_TEXT: torch.ones(1, 1, 1, 1, 1)}
            >>> MultiStream(text=0.5, visual=0).combine(predictions).item()
            4.0
        """
        positive = predictions[POSITIVE]
        negatives = {NEGATIVE_TEXT: self.text, NEGATIVE_VISUAL: self.visual}
        weights = {name: weight for name, weight in negatives.items() if weight and name in predictions}
        combined = (1 + sum(weights.values())) * positive
        for name, weight in weights.items():
            combined = combined - weight * predictions[name]
        return combined


@dataclass(frozen=True)
class WithinInterval:
    """Guidance inside an interval of steps only, with the positive branch alone outside (Kynkaanniemi et al. 2024).

    Attributes:
        guider: the guider inside the interval.
        first: the lowest guided step of the schedule.
        last: the highest guided step of the schedule.
    """

    guider: Guider
    first: int
    last: int

    def branches(self, step: int) -> tuple[str, ...]:
        """Return the guider's branches inside the interval, and the positive one outside."""
        return self.guider.branches(step) if self.first <= step <= self.last else (POSITIVE,)

    def combine(self, predictions: Mapping[str, Float[Tensor, "b c f h w"]]) -> Float[Tensor, "b c f h w"]:
        """Combine as the guider does; a positive branch alone stays unchanged."""
        return self.guider.combine(predictions)


def make_guider(config: SamplerConfig) -> Guider:
    """Make the guider of a configuration.

    Raises:
        UserError: the rescale is outside [0, 1], or the interval is not two steps in rising order.

    Examples:
        >>> make_guider(SamplerConfig(guider="multi_stream", negative_text=0.5, negative_visual=0)).branches(899)
        ('positive', 'negative_text')
    """
    if not 0 <= config.guidance_rescale <= 1:
        raise UserError(f"sampler.guidance_rescale is {config.guidance_rescale}; it must lie between 0 and 1")
    guider: Guider
    match Guiders(config.guider):
        case Guiders.none:
            guider = PositiveOnly()
        case Guiders.classifier_free:
            guider = ClassifierFree(config.guidance, config.guidance_rescale)
        case Guiders.multi_stream:
            guider = MultiStream(config.negative_text, config.negative_visual)
    interval = config.guidance_interval
    if not interval:
        return guider
    if len(interval) != 2 or interval[0] > interval[1]:
        raise UserError(
            f"sampler.guidance_interval is {interval}; it must be two steps of the schedule, such as [200,700], or []"
        )
    return WithinInterval(guider, *interval)


def _deviation(x: Tensor) -> Tensor:
    """Return the standard deviation over all axes but the batch, (B, 1, ...)."""
    return x.flatten(1).std(dim=1).view(-1, *[1] * (x.ndim - 1))
