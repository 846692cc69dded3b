"""Degraded copies of one person's pictures, with all that stays the same while a LoRA learns from them.

An adapter changes the U-Net's attentions alone. What the ControlNet computes for a copy, what the U-Net computes before
its first attention, and what the base restores without the adapter are the same at every step of the training, so they
are computed once a copy: a step then takes a fraction of the time.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ipfvr.data.faces import Draw
from ipfvr.data.scenes import SceneDataset
from ipfvr.models.blocks import Stem
from ipfvr.training.base import Frozen
from ipfvr.training.lora import Given, LoraTraining

_AT_A_TIME = 8  # copies


class Copies(NamedTuple):
    """N copies, pictures of one frame.

    Attributes:
        real: the picture behind each copy (N, 3, S, S), in [-1, 1].
        landmarks: (N, 5, 2), pixels of ``real``.
        given: the denoiser's inputs.
        frozen: what it makes of them before its first adapter.
        base: the latents (N, C, 1, h, w) that it restores without an adapter.
    """

    real: Tensor
    landmarks: Tensor
    given: Given
    frozen: Frozen
    base: Tensor

    def pick(self, numbers: Tensor) -> Self:
        """Return the copies with these numbers."""
        given = Given(*(None if value is None else value[numbers] for value in self.given))
        control, stem = self.frozen
        if stem is not None:
            stem = Stem([x[numbers] for x in stem.features], stem.x[numbers], stem.embedding[numbers])
        frozen = Frozen([x[numbers] for x in control], stem)
        return type(self)(self.real[numbers], self.landmarks[numbers], given, frozen, self.base[numbers])

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """Return the copies of all parts, in their order."""
        fields = zip(*(p.given for p in parts), strict=True)
        given = Given(*(None if values[0] is None else torch.cat(values) for values in fields))
        stems = [p.frozen.stem for p in parts if p.frozen.stem is not None]
        stem = None
        if stems:
            features = [torch.cat(same) for same in zip(*(s.features for s in stems), strict=True)]
            stem = Stem(features, torch.cat([s.x for s in stems]), torch.cat([s.embedding for s in stems]))
        control = [torch.cat(same) for same in zip(*(p.frozen.control for p in parts), strict=True)]
        real, points, base = (torch.cat([getattr(p, name) for p in parts]) for name in ("real", "landmarks", "base"))
        return cls(real, points, given, Frozen(control, stem), base)


@torch.no_grad()
def draw_copies(training: LoraTraining) -> Copies:
    """Draw ``learn.copies`` degraded copies of the person's pictures, each picture as often as the others.

    Args:
        training: its person's scenes are the pictures.
    """
    config, person = training.config, training.person
    dataset = SceneDataset(person.train, person.identity, config)
    seeds = np.random.default_rng(config.seed).integers(2**62, size=config.learn.copies).tolist()
    draws = [Draw(number % len(dataset), seed) for number, seed in enumerate(seeds)]
    return Copies.join(
        [_copies(training, dataset, draws[i : i + _AT_A_TIME]) for i in range(0, len(draws), _AT_A_TIME)]
    )


def _copies(training: LoraTraining, dataset: SceneDataset, draws: list[Draw]) -> Copies:
    batch = default_collate([dataset[draw] for draw in draws])
    batch = {name: value.to(training.device) if torch.is_tensor(value) else value for name, value in batch.items()}
    given = training.given(batch)
    frozen = training.frozen_features(given.text, given.z_hq, given.z_lq, given.step, given.noise)
    with training.network.unet.disable_adapter():
        _, base = training.estimate(training.network, **given._asdict(), frozen=frozen)
    return Copies(batch["pixels"].flatten(0, 1), batch["landmarks"].flatten(0, 1), given, frozen, base)
