"""CenterFace's network: faces of every size in one pass, each with a box and five landmarks.

Xu et al., *CenterFace: Joint Face Detection and Alignment Using Face as Point* (2019). A MobileNetV2 whose four levels
are added up at a quarter of the image's size; there every cell says whether a face's centre lies in it, how large the
face is, and where its five points are. The authors' weights (MIT) are shipped with mini in half precision.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ipfvr.core.errors import UserError

STRIDE = 4  # pixels of the image to a cell of the answer
MULTIPLE = 32  # an image's sides are multiples of this
_WIDTH = 24  # channels of the levels when they are added up
# Of MobileNetV2: factor by which a block widens, channels that it gives, blocks, stride of the first.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_TAKEN = (1, 2, 4, 6)  # the stages that are added up, at 1/4, 1/8, 1/16 and 1/32 of the image's size


class _Block(nn.Module):
    """MobileNetV2's block: widen, filter each channel, narrow; what came in is added where the shapes agree."""

    def __init__(self, channels: int, width: int, factor: int, stride: int) -> None:
        super().__init__()
        inner = channels * factor
        layers: list[nn.Module] = [nn.Conv2d(channels, inner, 1), nn.ReLU(inplace=True)] if factor > 1 else []
        layers += [
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, width, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.skip = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        return x + self.layers(x) if self.skip else self.layers(x)


class CenterFaceNet(nn.Module):
    """RGB images, 0 to 255, to the answer of every fourth pixel. Batch norms are part of the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(inplace=True))
        self.stages, channels = nn.ModuleList(), 32
        for factor, width, count, stride in _STAGES:
            blocks = [
                _Block(channels if i == 0 else width, width, factor, stride if i == 0 else 1) for i in range(count)
            ]
            self.stages.append(nn.Sequential(*blocks))
            channels = width
        self.sides = nn.ModuleList(nn.Conv2d(_STAGES[i][1], _WIDTH, 1) for i in reversed(_TAKEN))  # smallest first
        self.ups = nn.ModuleList(nn.ConvTranspose2d(_WIDTH, _WIDTH, 2, 2) for _ in _TAKEN[1:])
        self.shared = nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1)
        self.heads = nn.ModuleList(nn.Conv2d(_WIDTH, width, 1) for width in (1, 2, 2, 10))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Look at images whose sides are multiples of 32.

        Args:
            x: (N, 3, H, W) RGB, 0 to 255.

        Returns:
            of each cell the probability of a face's centre (N, 1, h, w), h = H / 4; the logarithm of the face's height
            and width in cells (N, 2, h, w); the centre's place in the cell, y, x (N, 2, h, w); five points as y, x
            from the box's corner in shares of its height and width (N, 10, h, w).
        """
        x, levels = self.stem(x), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in _TAKEN:
                levels.append(x)
        levels.reverse()
        x = self.sides[0](levels[0]).relu()
        for side, up, level in zip(self.sides[1:], self.ups, levels[1:], strict=True):
            x = up(x).relu() + side(level).relu()
        x = self.shared(x).relu()
        centre, size, offset, points = (head(x) for head in self.heads)
        return centre.sigmoid(), size, offset, points


@torch.inference_mode()
def detect_faces(net: CenterFaceNet, image: np.ndarray, least: float) -> np.ndarray:
    """Return the faces of one image, several answers for each of them.

    Args:
        net: the network.
        image: (H, W, 3) uint8 RGB.
        least: probability from which an answer counts.

    Returns:
        see :func:`decode`.
    """
    bottom, right = (-side % MULTIPLE for side in image.shape[:2])
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
    x = torch.from_numpy(padded)[None].permute(0, 3, 1, 2)  # in memory it stays channels last
    return decode(net(x.float()), least)


def decode(answer: tuple[Tensor, Tensor, Tensor, Tensor], least: float) -> np.ndarray:
    """Return the faces of one image's answer, overlapping ones too.

    Args:
        answer: what :class:`CenterFaceNet` says, N = 1.
        least: probability from which a cell is a face.

    Returns:
        (K, 15) float32: x, y, w, h, five landmarks x, y, probability; pixels of the image, whose top left pixel's
        centre is (0, 0).
    """
    centre, size, offset, points = (part[0].numpy() for part in answer)
    rows, columns = np.nonzero(centre[0] >= least)
    height, width = (np.exp(size[:, rows, columns]) * STRIDE).astype(np.float32)
    # The network counts from the image's corner, half a pixel outside of the first one's centre.
    y = (rows + offset[0, rows, columns] + 0.5) * STRIDE - height / 2 - 0.5
    x = (columns + offset[1, rows, columns] + 0.5) * STRIDE - width / 2 - 0.5
    marks = points[:, rows, columns].reshape(5, 2, -1)
    places = np.stack([x + marks[:, 1] * width, y + marks[:, 0] * height], axis=1).reshape(10, -1)
    return np.vstack([x, y, width, height, places, centre[0, rows, columns]]).T.astype(np.float32)


def load_centerface(path: str | Path) -> CenterFaceNet:
    """Read the network's weights (half or full precision safetensors).

    Raises:
        UserError: a file that is not there, not safetensors or of another network.
    """
    net = CenterFaceNet()
    try:
        net.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} does not hold CenterFace's network ({reason}); install ipfvr again") from None
    return net.eval().to(memory_format=torch.channels_last)


def save_centerface(net: CenterFaceNet, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights in half precision, with words on where they come from."""
    state = {key: value.half().contiguous() for key, value in net.state_dict().items()}
    save_file(state, path, metadata)
