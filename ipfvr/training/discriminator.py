"""A patch discriminator, which makes restored faces look like photographs, and its loss."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


class PatchDiscriminator(nn.Module):
    """Scores each 34 x 34 patch: (N, 3, H, W) to (N, 1, H / 8, W / 8), unbounded, higher for photographs."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        sizes = [3, width, 2 * width, 3 * width]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [norm(nn.Conv2d(a, b, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, norm(nn.Conv2d(sizes[-1], 1, 3, padding=1)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the scores."""
        return self.layers(pixels)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Return the activations of the hidden layers, finest first, and the scores."""
        found = []
        for layer in self.layers:
            pixels = layer(pixels)
            if isinstance(layer, nn.LeakyReLU):
                found.append(pixels)
        return [*found, pixels]


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Compute the discriminator's loss, max(0, 1 - D(real)) + max(0, 1 + D(fake)), as a mean over patches."""
    return (functional.relu(1 - real) + functional.relu(1 + fake)).mean()
