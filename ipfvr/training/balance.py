"""Combines several losses on pixels by the lengths of their gradients instead of by weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Losses = Mapping[str, tuple[Tensor, float]]  # by name: the loss, a scalar, and its share
_SMOOTHING = 0.99  # of the running mean of the gradients' lengths


class Balance:
    """Scales the gradients of several losses at one tensor to given lengths and adds them up.

    Losses of a recogniser and of a discriminator have other scales than Eq. 3, and the scales change during training,
    so fixed weights do not fit throughout. This class scales each gradient g_i to the length share_i |g_0|, by a
    running mean of |g_i|, where |g_0| is the length of Eq. 3's gradient (Defossez et al. 2022, "High Fidelity Neural
    Audio Compression", Section 3.4).
    """

    def __init__(self) -> None:
        self.lengths: dict[str, Tensor] = {}

    def add(
        self,
        loss: Tensor,
        drawn: Tensor,
        real: Tensor,
        losses_of: Callable[[Tensor], Losses],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the losses on pixels to Eq. 3's loss.

        Args:
            loss: Eq. 3's loss, a scalar.
            drawn: pixels of its estimate (N, 3, S, S), with a graph.
            real: the true pixels (N, 3, S, S).
            losses_of: computes the losses of given pixels, by name, each with its share. If it returns none, ``loss``
                is returned unchanged.

        Returns:
            A scalar to differentiate, and the values of the losses on pixels.
        """
        leaf = drawn.detach().requires_grad_()
        losses = losses_of(leaf)
        if not losses:
            return loss, {}
        # Eq. 3 is proportional to the squared error of the pixels where the codec is nearly orthonormal.
        anchor = 2 * loss.detach() / (leaf.detach() - real).norm().clamp(min=1e-6)
        joined = loss + (drawn * self(leaf, losses, anchor)).sum()
        return joined, {name: value.detach() for name, (value, _) in losses.items()}

    def __call__(self, at: Tensor, losses: Losses, anchor: Tensor) -> Tensor:
        """Sum the scaled gradients.

        Args:
            at: the tensor that the losses were computed from, a leaf that requires a gradient.
            losses: by name the loss, a scalar, and its share.
            anchor: |g_0|, a scalar.

        Returns:
            A tensor like ``at``, without a graph.
        """
        total = torch.zeros_like(at)
        for name, (loss, share) in losses.items():
            (gradient,) = torch.autograd.grad(loss, at, retain_graph=True)
            length = gradient.norm()
            mean = self.lengths.get(name, length)
            self.lengths[name] = (_SMOOTHING * mean + (1 - _SMOOTHING) * length).detach()
            total += share * anchor / self.lengths[name].clamp(min=1e-12) * gradient
        return total
