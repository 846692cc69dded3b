"""Losses of face recognisers on the pixels of an estimate: on its identity and on their feature maps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ipfvr.core.errors import UserError
from ipfvr.core.training_options import PolishConfig
from ipfvr.faces.align import warp_faces
from ipfvr.faces.iresnet import IResNet
from ipfvr.faces.recognise import Recogniser


def likeness_losses(
    recognisers: Iterable[Recogniser],
    drawn: Tensor,
    real: Tensor,
    landmarks: np.ndarray,
    polish: PolishConfig,
    jitter: float,
    rng: np.random.Generator,
    one_person: bool = False,
) -> dict[str, tuple[Tensor, float]]:
    """Compute the losses of ``polish`` that use recognisers, each with its share.

    Args:
        recognisers: all of them compare vectors, the last one compares maps as well.
        drawn: the estimate (N, 3, S, S) in [-1, 1].
        real: the truth (N, 3, S, S) in [-1, 1].
        landmarks: (N, 5, 2) pixels of both.
        polish: the shares of the losses.
        jitter: standard deviation, as a share of the side, by which each point is moved at random. The network could
            otherwise learn a pattern that only works in one crop.
        rng: draws the moves.
        one_person: whether all frames show one person.

    Returns:
        By name the loss, a scalar, and its share.

    Raises:
        UserError: as :func:`map_loss`.
    """
    judges, losses = list(recognisers), {}
    if not judges:
        return losses
    points = landmarks + jitter * real.shape[-1] * rng.standard_normal(landmarks.shape)
    found, wanted = (warp_faces(pixels, points) for pixels in (drawn.clamp(-1, 1), real))
    for judge in judges if polish.identity else []:
        name = f"identity_{Path(judge.name).name}"
        losses[name] = (person_loss(judge, found, wanted, one_person), polish.identity)
    if polish.features:
        losses["features"] = (map_loss(judges[-1], found, wanted), polish.features)
    return losses


def person_loss(judge: Recogniser, found: Tensor, wanted: Tensor, one_person: bool = False) -> Tensor:
    """Return 1 - the mean cosine of a recogniser's vectors of two lists of crops (N, 3, 112, 112).

    The mean vector of the batch is subtracted first. dlib's vectors all point in about one direction (the cosine of two
    people is 0.84), so most of the cosine would only say that both pictures show a face. If all crops show
    ``one_person``, the mean is that person's vector, so it is not subtracted.
    """
    with torch.no_grad():
        truth = judge.embed(wanted).float()
    mean = 0 if one_person else truth.mean(0)
    return 1 - functional.cosine_similarity(judge.embed(found).float() - mean, truth - mean).mean()


def map_loss(judge: Recogniser, found: Tensor, wanted: Tensor) -> Tensor:
    """Return the L1 distance between an IResNet's feature maps of two lists of crops, as a mean over the stages.

    The last stage is left out. The distance of a stage is relative to the mean absolute value of its map of ``wanted``.

    Raises:
        UserError: the recogniser is no IResNet.
    """
    if not isinstance(judge.net, IResNet):
        raise UserError(f"polish.features needs an IResNet as the last of loss.recognisers, not {judge.name}")
    ours, theirs = (judge.net.stages(((x + 1) / 2 - judge.mean) / judge.std)[:-1] for x in (found, wanted))
    apart = [(a - b.detach()).abs().mean() / b.detach().abs().mean() for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(apart).mean()
