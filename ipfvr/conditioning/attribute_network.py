"""The network that reads CelebA's 40 attributes off an aligned face (Section 3.2; after MOON, Rudd et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ipfvr.conditioning.attributes import WORDS
from ipfvr.core.errors import UserError
from ipfvr.core.pixels import resize, to_tensor
from ipfvr.models.backbone import load_module
from ipfvr.weights.registry import locate

SIDE = 96  # pixels of a side of the crop that the network sees
_DOUBT = 1e-3  # no probability is nearer to 0 or 1
_STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 1, 2))  # width, blocks, stride of the first


class AttributeNetwork(nn.Module):
    """A small ResNet with one output for each attribute, which Eq. (3) of MOON draws to 1 (present) or -1.

    Attributes:
        source: (40,) share of faces with the attribute among the pictures it was trained on.
        target: (40,) the same in the domain that its training was weighted for.
    """

    source: Tensor
    target: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 6, 4, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        blocks, width = [], 32
        for out, count, stride in _STAGES:
            for number in range(count):
                blocks.append(_Residual(width, out, stride if number == 0 else 1))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(width, len(WORDS))
        self.register_buffer("source", torch.full((len(WORDS),), 0.5))
        self.register_buffer("target", torch.full((len(WORDS),), 0.5))

    def forward(self, faces: Tensor) -> Tensor:
        """Aligned crops (N, 3, 96, 96) RGB in [-1, 1] to (N, 40), in the order of ``WORDS``; 1: present, -1: not."""
        return self.head(self.dropout(self.blocks(self.stem(faces)).mean(dim=(2, 3))))

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Outputs (N, 40) to the probabilities of the attributes among pictures like those of the training.

        The output that minimises the squared error is ``E[y | x]`` in the target domain, so ``(f + 1) / 2`` is the
        probability there; by Bayes its odds change with the shares' odds from one domain to the other.
        """
        return torch.sigmoid(self._log_odds(outputs) + self.source.logit() - self.target.logit())

    def balanced(self, outputs: Tensor) -> Tensor:
        """Return probabilities as if each attribute were present in half of all pictures, with 0.5 as the threshold."""
        return torch.sigmoid(self._log_odds(outputs) - self.target.logit())

    def _log_odds(self, outputs: Tensor) -> Tensor:
        return torch.clamp((outputs + 1) / 2, _DOUBT, 1 - _DOUBT).logit()


class _Residual(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        same = width == out and stride == 1
        self.short = (
            nn.Identity()
            if same
            else nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.short(x))


@dataclass
class AttributeReader:
    """The network with its weights, on pictures.

    Attributes:
        network: in evaluation mode.
        path: its file.
    """

    network: AttributeNetwork
    path: Path

    @torch.inference_mode()
    def read(self, faces: Sequence[np.ndarray]) -> dict[str, float]:
        """Return the attributes' probabilities, the mean over faces of one person and their mirror images.

        Args:
            faces: aligned square crops (:func:`ipfvr.faces.align.crop_matrix`), uint8 RGB, of any size.

        Raises:
            ValueError: no faces.
        """
        if not faces:
            raise ValueError("at least one face is needed")
        pixels = torch.cat([resize(to_tensor(face[None]), SIDE) for face in faces])
        outputs = self.network(torch.cat([pixels, pixels.flip(-1)]))
        return dict(zip(WORDS, self.network.probabilities(outputs).mean(dim=0).tolist(), strict=True))


def load_attributes(name: str | Path) -> AttributeReader:
    """Load the network from a registered name or a file.

    Raises:
        UserError: the file is not there or holds another network.
    """
    path = locate(str(name))
    network = AttributeNetwork()
    state = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    load_module(network, path, may_lack=tuple(state))
    if not bool(((network.source > 0) & (network.source < 1) & (network.target > 0) & (network.target < 1)).all()):
        raise UserError(f"{path}: the shares of the attributes must lie between 0 and 1")
    return AttributeReader(network.eval().requires_grad_(False), path)
