"""The project's landmark network: five points and a score from a small grey patch.

It aligns the patch by a detector's points and returns more precise ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from ipfvr.core.errors import UserError
from ipfvr.faces.align import apply, crop, face_template, invert, similarity_transform

PATCH = 64  # side of the patch, pixels
SPREAD = PATCH / 5.2  # root mean square distance of the five points to their mean in an aligned patch, pixels
UNIT = PATCH / 4  # the network's outputs are displacements in this unit


def patch_template() -> np.ndarray:
    """Return the five points of an aligned patch: (5, 2) float64, pixels; their mean is the patch's centre."""
    points = face_template(PATCH)
    points -= points.mean(axis=0)
    return points * (SPREAD / np.sqrt((points**2).sum(axis=1).mean())) + (PATCH - 1) / 2


class LandmarkNet(nn.Module):
    """Grey patches to five displacements from the template and a logit 'this is a face'.

    Seven 3x3 convolutions, four of them of stride 2, and two linear layers; each patch is first brought to zero
    mean and unit variance, so that exposure and contrast do not matter.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, stride in ((16, 2), (32, 2), (32, 1), (48, 2), (48, 1), (64, 2)):
            layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(channels * (PATCH // 16) ** 2, 96), nn.ReLU())
        self.head = nn.Linear(96, 11)

    def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches (N, 1, 64, 64), any range, to displacements (N, 5, 2) in units of 16 pixels and logits (N,)."""
        mean = patches.mean(dim=(1, 2, 3), keepdim=True)
        deviation = patches.std(dim=(1, 2, 3), keepdim=True)
        out = self.head(self.hidden(self.features((patches - mean) / (deviation + 1e-3 * 255))))
        return out[:, :10].reshape(-1, 5, 2), out[:, 10]


@dataclass
class LandmarkModel:
    """The network with its weights, on images."""

    net: LandmarkNet
    path: Path

    def refine(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float]:
        """Like :meth:`locate`, by one look, from approximate landmarks (5, 2) of a face turned any way."""
        if np.ptp(landmarks, axis=0).max() < 1:  # smaller than a pixel: nothing to align by
            return np.asarray(landmarks, dtype=np.float32), 0.0
        points, score = self._look(image, similarity_transform(landmarks, patch_template()))
        return points.astype(np.float32), score if _plausible(points) else 0.0

    @torch.inference_mode()
    def _look(self, image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, float]:
        patch = grey_patch(image, matrix)
        shift, logit = self.net(torch.from_numpy(patch)[None, None].float())
        points = patch_template() + shift[0].double().numpy() * UNIT
        return apply(invert(matrix), points), float(torch.sigmoid(logit[0]))


def grey_patch(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the (64, 64) uint8 grey patch that a (2, 3) transform cuts out of an image."""
    patch = crop(image, matrix, PATCH)
    return cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY) if patch.ndim == 3 else patch


def load_landmarks(path: str | Path) -> LandmarkModel:
    """Read the network's weights (half or full precision safetensors).

    Raises:
        UserError: a file that is not there, not safetensors or of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no landmark weights {path}: the installation is incomplete; install ipfvr again")
    net = LandmarkNet()
    try:
        state = {key: value.float() for key, value in load_file(path).items()}
        # BatchNorm counts batches for a running mean without momentum, which is not used here.
        counters = {key: value for key, value in net.state_dict().items() if key.endswith("num_batches_tracked")}
        net.load_state_dict(state | counters)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} does not hold the landmark network ({reason}); install ipfvr again") from None
    return LandmarkModel(net.eval(), path)


def _plausible(points: np.ndarray) -> bool:
    """The mouth lies below the eyes and nothing has collapsed: else no similarity is worth computing."""
    across, down = points[1] - points[0], points[3:].mean(axis=0) - points[:2].mean(axis=0)
    return bool(np.isfinite(points).all() and across[0] * down[1] - across[1] * down[0] > 1e-6)
