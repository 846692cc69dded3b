"""Several losses on pixels, each with a say of its own: what counts is the length of its gradient, not its scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Losses = Mapping[str, tuple[Tensor, float]]  # by name: the loss, a scalar, and its share
_SMOOTHING = 0.99  # of the lengths of the gradients


class Balance:
    """Gradients of several losses at one tensor, made as long as their shares say and added up.

    A loss through a recogniser and one through a discriminator are of other sizes than Eq. 3's, and their sizes change
    as training goes on; weights that fit its beginning do not fit its end. So each gradient g_i is scaled to the length
    share_i |g_0|, by a running mean of |g_i|, where |g_0| is the length of Eq. 3's own (Defossez et al. 2022, "High
    Fidelity Neural Audio Compression", Section 3.4, balance their losses so).
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
        """Eq. 3's loss with the losses on pixels beside it.

        Args:
            loss: Eq. 3's, a scalar.
            drawn: pixels of its estimate (N, 3, S, S), with a graph.
            real: the truth, alike.
            losses_of: pixels to the losses on them, by name, each with its share; none: ``loss`` comes back as it is.

        Returns:
            A scalar to take the gradient of, and the values of the losses on pixels.
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
        """The sum of the scaled gradients.

        Args:
            at: what the losses were computed of; a leaf that requires a gradient.
            losses: name: the loss, a scalar, and its share.
            anchor: |g_0|, a scalar.

        Returns:
            like ``at``, without a graph.
        """
        total = torch.zeros_like(at)
        for name, (loss, share) in losses.items():
            (gradient,) = torch.autograd.grad(loss, at, retain_graph=True)
            length = gradient.norm()
            mean = self.lengths.get(name, length)
            self.lengths[name] = (_SMOOTHING * mean + (1 - _SMOOTHING) * length).detach()
            total += share * anchor / self.lengths[name].clamp(min=1e-12) * gradient
        return total
