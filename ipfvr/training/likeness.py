"""What the pixels of an estimate must be beside Eq. 3, to face recognisers: of the same person, and drawn alike."""

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
    """The losses of ``polish`` that look through recognisers, each with its share.

    Args:
        recognisers: whose vectors are compared; the maps are the last one's.
        drawn: the estimate (N, 3, S, S) in [-1, 1].
        real: the truth, alike.
        landmarks: (N, 5, 2) pixels of both.
        polish: which losses there are.
        jitter: each point is moved at random by this standard deviation, as a share of the side, so that no pattern
            pleases a recogniser that another crop would not show.
        rng: draws the moves.
        one_person: all frames show one person.

    Returns:
        name: the loss, a scalar, and its share.

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
    """1 - the mean cosine of a recogniser's vectors of two lists of crops (N, 3, 112, 112).

    The cosine is about the common mean of many people: dlib's vectors all point one way (two people's cosine is 0.84),
    so without the mean, which is nobody's, most of the cosine would say only that both are faces. Of ``one_person``
    the mean would be what is looked for; there it stays.
    """
    with torch.no_grad():
        truth = judge.embed(wanted).float()
    mean = 0 if one_person else truth.mean(0)
    return 1 - functional.cosine_similarity(judge.embed(found).float() - mean, truth - mean).mean()


def map_loss(judge: Recogniser, found: Tensor, wanted: Tensor) -> Tensor:
    """The mean over the stages but the last of an IResNet's L1 distance between the maps of two lists of crops.

    Each stage's is relative to the mean size of what it says of ``wanted``.

    Raises:
        UserError: a recogniser of another kind, whose stages have no names.
    """
    if not isinstance(judge.net, IResNet):
        raise UserError(f"polish.features needs an IResNet as the last of loss.recognisers, not {judge.name}")
    ours, theirs = (judge.net.stages(((x + 1) / 2 - judge.mean) / judge.std)[:-1] for x in (found, wanted))
    apart = [(a - b.detach()).abs().mean() / b.detach().abs().mean() for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(apart).mean()
