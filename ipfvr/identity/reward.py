"""The feedback reward of Section 3.3: Eq. 5 to 8, and its gradient at the memory of a few frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipfvr.core.choices import Autoencoders, Statistics
from ipfvr.core.errors import UserError
from ipfvr.core.options import RewardConfig
from ipfvr.core.shapes import Float
from ipfvr.faces.align import warp_faces
from ipfvr.faces.recognise import Recogniser
from ipfvr.models.vae import LatentCodec

Rewards = Callable[[Tensor, int], Tensor]  # latents (n, C, h, w) of the frames from a first one on -> their r_f (n,)


def identity_reward(
    features: Float[Tensor, "f 1"] | Float[Tensor, "f d"], reference: Float[Tensor, "f d"] | Float[Tensor, " d"]
) -> Float[Tensor, " f"]:
    """Eq. 5: r_f = cos_sim(x_f, x_ref).

    Args:
        features: x_f, embeddings of the generated frames' faces (F, D); not finite where a frame has no face, and
            (F, 1) where none has one.
        reference: x_ref (D,), or one for each frame (F, D).

    Returns:
        r_f (F,) in [-1, 1].

    Examples:
        >>> identity_reward(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([1.0, 0.0]))
        tensor([1., 0.])
    """
    return F.cosine_similarity(features, reference, dim=-1)


def normalise_reward(
    rewards: Float[Tensor, "*b f"], statistics: str = "detach", epsilon: float = 0.01
) -> Float[Tensor, "*b f"]:
    """Eq. 6: A_f = (r_f - Mean) / Std, over the frames of a clip.

    To the letter (``literal``) the A_f of a clip sum to zero whatever the network does, so their gradients cancel:
    some frames can only win what others lose. With ``detach``, Mean and Std are constants, and every r_f is pulled up.

    Args:
        rewards: r_f (..., F).
        statistics: ``detach`` or ``literal``.
        epsilon: Std is sqrt(variance + epsilon^2), the population's variance: a clip of equal frames has A_f = 0 and
            a finite gradient, at most 1 / epsilon.

    Returns:
        A_f (..., F).

    Raises:
        UserError: epsilon is not above 0.

    Examples:
        >>> normalise_reward(torch.tensor([0.0, 1.0]), epsilon=1e-6)
        tensor([-1.,  1.])
        >>> normalise_reward(torch.tensor([0.5, 0.5]))
        tensor([0., 0.])
    """
    if epsilon <= 0:
        raise UserError(f"reward.epsilon is {epsilon}; it must be above 0")
    over = rewards if Statistics(statistics) == Statistics.literal else rewards.detach()
    mean = over.mean(-1, keepdim=True)
    deviation = (over.var(-1, correction=0, keepdim=True) + epsilon**2).sqrt()
    return (rewards - mean) / deviation


def suffix_weighted_reward(normalised: Float[Tensor, "*b f"], gamma: float) -> Float[Tensor, "*b f"]:
    """Eq. 7: R_f = sum_{f' = f}^{F} gamma^(f' - f) A_f'.

    Args:
        normalised: A_f (..., F).
        gamma: discount, 0 to 1; 0 gives A_f itself.

    Returns:
        R_f (..., F).

    Raises:
        UserError: gamma outside [0, 1].

    Examples:
        >>> suffix_weighted_reward(torch.tensor([1.0, 2.0, 4.0]), gamma=0.5)
        tensor([3., 4., 4.])
    """
    if not 0 <= gamma <= 1:
        raise UserError(f"reward.gamma is {gamma}; it must lie between 0 and 1")
    frames = torch.arange(normalised.shape[-1], device=normalised.device)
    distance = frames[:, None] - frames  # f' - f: row f', column f
    weights = torch.full_like(distance, gamma, dtype=normalised.dtype) ** distance.clamp(min=0)
    return normalised @ torch.where(distance >= 0, weights, 0)


def feedback_loss(discounted: Float[Tensor, " f"], frame: int, bound: float = 2.0) -> Float[Tensor, ""]:
    """Eq. 8: L_id_reward = 1 - exp(R_f), at one frame f drawn uniformly.

    Args:
        discounted: R_f of a clip (F,).
        frame: f.
        bound: the exponent is min(R_f, bound), so that one clip cannot explode a step; beyond it the gradient is 0.

    Returns:
        The loss, shape (), in [1 - exp(bound), 1).

    Examples:
        >>> feedback_loss(torch.tensor([0.0, 5.0]), frame=0)
        tensor(0.)
        >>> feedback_loss(torch.tensor([0.0, 5.0]), frame=1) == 1 - torch.tensor(2.0).exp()  # bounded
        tensor(True)
    """
    return 1 - discounted[frame].clamp(max=bound).exp()


@dataclass(frozen=True)
class Feedback:
    """The reward of one clip.

    Attributes:
        loss: Eq. 8, with a gradient to the latents.
        rewards: r_f (F,), Eq. 5, without one.
        discounted: R_f (F,), Eq. 7, without one.
        frame: f of Eq. 8.
    """

    loss: Tensor
    rewards: Tensor
    discounted: Tensor
    frame: int


def clip_feedback(
    latents: Tensor, rewards: Rewards, config: RewardConfig, chunk: int, frame: int, alone: bool = False
) -> Feedback:
    """Eq. 6 to 8 for one clip, the exact gradient at the memory of one chunk of frames.

    Args:
        latents: (F, C, h, w), with a graph.
        rewards: Eq. 5: latents of some frames, and the first one's index, to their r_f. What it gives for a frame must
            depend on the frames of its chunk alone.
        config: gamma, statistics, epsilon, bound.
        chunk: frames at a time.
        frame: f of Eq. 8.
        alone: see :func:`chunked_objective`.
    """
    discounted: list[Tensor] = []

    def objective(r: Tensor) -> Tensor:
        normalised = normalise_reward(r, config.statistics, config.epsilon)
        discounted.append(suffix_weighted_reward(normalised, config.gamma))
        return feedback_loss(discounted[-1], frame, config.bound)

    reached = reward_reach(config, frame, len(latents)) if alone else range(0)
    loss, r = chunked_objective(latents, rewards, objective, chunk, reached)
    return Feedback(loss, r, discounted[-1].detach(), frame)


def reward_reach(config: RewardConfig, frame: int, frames: int) -> range:
    """Return the frames whose r_f get a gradient from Eq. 8 at ``frame``: all if ``literal``, else the suffix."""
    if config.statistics == Statistics.literal:
        return range(frames)
    return range(frame, frames) if config.gamma else range(frame, frame + 1)


def chunked_objective(
    latents: Tensor, rewards: Rewards, objective: Callable[[Tensor], Tensor], chunk: int, alone: range = range(0)
) -> tuple[Tensor, Tensor]:
    """objective(r(latents)), whose gradient is exact and needs the graph of one chunk of frames at a time.

    The chain rule is dL/dz = sum_f dL/dr_f dr_f/dz, and dL/dr_f is known only when every r_f is. So every r_f is
    computed without a graph first, and each chunk whose dL/dr_f is not zero is run again with one. Where an r_f depends
    on its own frame alone, dr_f/dz is taken at once and multiplied afterwards: nothing is run twice.

    Args:
        latents: (F, ...).
        rewards: latents of the frames from the given index on -> r (n,).
        objective: r (F,) -> a scalar.
        chunk: frames at a time.
        alone: frames that certainly have a gradient and whose r_f depends on their own latents alone.

    Returns:
        The objective, with a gradient to ``latents``, and r (F,), without one.
    """
    return _Chunked.apply(latents, rewards, objective, chunk, alone)


class _Chunked(torch.autograd.Function):
    """See :func:`chunked_objective`; the gradient is computed on the way forward, where the chunks are at hand."""

    @staticmethod
    def forward(
        ctx: Any, latents: Tensor, rewards: Rewards, objective: Callable[[Tensor], Tensor], chunk: int, alone: range
    ) -> tuple[Tensor, Tensor]:
        learns = ctx.needs_input_grad[0]
        gradient, parts, at_once = torch.zeros_like(latents), [], set()
        for i in range(0, len(latents), chunk):
            if learns and alone and i < alone.stop and i + chunk > alone.start:
                part, slopes = _with_gradient(rewards, latents, i, chunk, None)
                gradient[i : i + chunk] = slopes
                at_once.add(i)
            else:
                part = rewards(latents[i : i + chunk], i)
            parts.append(part)
        r = torch.cat(parts)
        ctx.mark_non_differentiable(r)
        with torch.enable_grad():
            loss = objective(r.requires_grad_(True))
            (by_reward,) = torch.autograd.grad(loss, r)
        r.requires_grad_(False)
        if learns:
            for i in range(0, len(latents), chunk):
                weights = by_reward[i : i + chunk]
                if i in at_once:
                    gradient[i : i + chunk] *= weights.reshape(-1, *[1] * (latents.ndim - 1))
                elif weights.any():
                    _, gradient[i : i + chunk] = _with_gradient(rewards, latents, i, chunk, weights)
            ctx.save_for_backward(gradient)
        return loss.detach(), r

    @staticmethod
    def backward(ctx: Any, by_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return by_loss * gradient, None, None, None, None


def _with_gradient(
    rewards: Rewards, latents: Tensor, first: int, chunk: int, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return r of a chunk, and the gradient of its sum, weighted or not, by the chunk's latents."""
    with torch.enable_grad():
        part = latents[first : first + chunk].detach().requires_grad_(True)
        r = rewards(part, first)
        (slopes,) = torch.autograd.grad(r, part, torch.ones_like(r) if weights is None else weights)
    return r.detach(), slopes


class FaceRewards(nn.Module):
    """Eq. 5 from latents: decode, warp each face to the recogniser's template, embed, compare with the reference.

    Args:
        codec: decodes; frozen.
        recogniser: embeds; frozen.
        reference: x_ref (D,).
    """

    reference: Tensor

    def __init__(self, codec: LatentCodec, recogniser: Recogniser, reference: Tensor) -> None:
        super().__init__()
        self.codec, self.recogniser = codec, recogniser
        self.register_buffer("reference", reference, persistent=False)

    def chunk(self, frames: int) -> int:
        """Return the number of frames to decode at a time; a temporal decoder needs its own whole chunk."""
        return frames if self.alone else self.codec.config.frames_per_chunk

    @property
    def alone(self) -> bool:
        """Whether r_f of a frame depends only on the frame's own latents."""
        return self.codec.config.kind != Autoencoders.temporal

    def of_clip(self, landmarks: Tensor) -> Rewards:
        """The map from latents to r_f for a clip whose faces' landmarks are (F, 5, 2), pixels, found beforehand."""
        return lambda latents, first: self(latents, landmarks[first : first + len(latents)])

    def forward(self, latents: Float[Tensor, "n c h w"], landmarks: Float[Tensor, "n 5 2"]) -> Float[Tensor, " n"]:
        """r_f (n,) of latents (n, C, h, w); frames are clipped to [-1, 1], as they are when they are written."""
        frames = self.codec.decode(latents).clamp(-1, 1)
        # One by one: how finely a batch is sampled would depend on its largest face, and so on the chunk.
        faces = [warp_faces(frames[i : i + 1], landmarks[i : i + 1]) for i in range(len(frames))]
        return identity_reward(self.recogniser.embed(torch.cat(faces)), self.reference)
