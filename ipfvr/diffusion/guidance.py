"""Guiders: which branches a denoising step runs, and how their predictions are combined.

A guider names its branches; the sampler keeps the conditions of each branch, runs the network once for each, and gives
the predictions to :meth:`Guider.combine`. Another way of combining (more branches, other weights) is another class here
and a line in :func:`make_guider`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from ipfvr.errors import UserError
from ipfvr.options import SamplerConfig

POSITIVE = "positive"
NEGATIVE = "negative"


class Guider(Protocol):
    """Combines the predictions of one or more branches."""

    branches: ClassVar[tuple[str, ...]]

    def combine(self, predictions: Mapping[str, Tensor]) -> Tensor:
        """One prediction from those of the branches, each (B, C, F, h, w)."""
        ...


@dataclass(frozen=True)
class PositiveOnly:
    """No guidance: the positive branch as it is, at the cost of one."""

    branches: ClassVar[tuple[str, ...]] = (POSITIVE,)

    def combine(self, predictions: Mapping[str, Tensor]) -> Tensor:
        """The positive branch's prediction."""
        return predictions[POSITIVE]


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (Ho and Salimans 2022), rescaled (Lin et al. 2023, section 3.4).

    Attributes:
        weight: w; 1 is the positive branch.
        rescale: phi, 0 (not at all) to 1 (the result has the positive branch's standard deviation).
    """

    weight: float
    rescale: float = 0.0
    branches: ClassVar[tuple[str, ...]] = (POSITIVE, NEGATIVE)

    def combine(self, predictions: Mapping[str, Tensor]) -> Tensor:
        """g = v_neg + w (v_pos - v_neg), then g (phi std(v_pos) / std(g) + 1 - phi)."""
        positive, negative = predictions[POSITIVE], predictions[NEGATIVE]
        guided = negative + self.weight * (positive - negative)
        if not self.rescale:
            return guided
        ratio = _deviation(positive) / _deviation(guided).clamp(min=1e-12)
        return guided * (self.rescale * ratio + (1 - self.rescale))


def make_guider(config: SamplerConfig) -> Guider:
    """The guider that a configuration asks for.

    Raises:
        UserError: a rescale outside [0, 1].
    """
    if not 0 <= config.guidance_rescale <= 1:
        raise UserError(f"sampler.guidance_rescale is {config.guidance_rescale}; it must lie between 0 and 1")
    if config.guidance == 1:
        return PositiveOnly()
    return ClassifierFree(config.guidance, config.guidance_rescale)


def _deviation(x: Tensor) -> Tensor:
    """Standard deviation over all but the batch, (B, 1, ...)."""
    return x.flatten(1).std(dim=1).view(-1, *[1] * (x.ndim - 1))
