"""MobileFaceNet, the small public recogniser."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# MobileFaceNet's inverted residuals: (expansion, width, stride).
_BLOCKS = (
    *[(2, 64, 2), *[(2, 64, 1)] * 4],
    *[(4, 128, 2), *[(2, 128, 1)] * 6],
    *[(4, 128, 2), *[(2, 128, 1)] * 2],
)


class MobileFaceNet(nn.Module):
    """MobileFaceNet (Chen et al. 2018): (N, 3, 112, 112), normalised, to (N, 128), not normalised.

    The names of its parts are those of the published weights (foamliu/MobileFaceNet, Apache-2.0); it was trained on
    colours normalised as ImageNet's.
    """

    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 3, 2)
        self.dw_conv = _Separable(64)
        blocks, width = [], 64
        for expansion, out, stride in _BLOCKS:
            blocks.append(_InvertedResidual(width, out, stride, expansion))
            width = out
        self.features = nn.Sequential(*blocks)
        self.conv2 = _conv(width, 512, 1)
        self.gdconv = _GlobalDepthwise(512)
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm2d(128)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.conv2(self.features(self.dw_conv(self.conv1(x))))
        return self.bn(self.conv3(self.gdconv(x))).flatten(1)


def _conv(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(width, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())


class _Separable(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x))))))


class _InvertedResidual(nn.Module):
    def __init__(self, width: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.residual = stride == 1 and width == out
        self.conv = nn.Sequential(
            _conv(width, hidden, 1),
            _conv(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class _GlobalDepthwise(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, groups=width, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.depthwise(x))
