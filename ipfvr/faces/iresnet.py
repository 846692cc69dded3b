"""IResNet, the improved residual network of ArcFace (Deng et al., CVPR 2019), with the published names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from ipfvr.core.errors import UserError
from ipfvr.faces.align import ARCFACE_SIZE

SIZE_KEY = "iresnet"  # of a safetensors header: the size as JSON


@dataclass(frozen=True)
class IResNetSize:
    """The dimensions of an IResNet.

    Attributes:
        blocks: residual blocks in each of the four stages.
        widths: channels of the stages.
        embedding: length of the vector.
        stem_stride: of the first convolution; 1 in the published networks, 2 makes them four times cheaper.
    """

    blocks: Sequence[int]
    widths: Sequence[int] = (64, 128, 256, 512)
    embedding: int = 512
    stem_stride: int = 1

    def __post_init__(self) -> None:
        # JSON and configurations have lists.
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "widths", tuple(self.widths))

    def to_dict(self) -> dict:
        """Plain values for JSON; ``IResNetSize(**values)`` gives the same size back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


class IResNet(nn.Module):
    """Faces (N, 3, 112, 112), normalised, to vectors (N, ``size.embedding``), not normalised.

    Stages of residual blocks, each stage halving the picture, then one linear layer over the whole map. The names of
    its parts are those of the published weights (insightface, ``arcface_torch``).

    Args:
        size: see :class:`IResNetSize`.
        dropout: share of the last map that is dropped in training.
    """

    MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # of insightface: x / 127.5 - 1

    def __init__(self, size: IResNetSize, dropout: float = 0.0) -> None:
        super().__init__()
        self.size = size
        width = size.widths[0]
        self.conv1 = nn.Conv2d(3, width, 3, size.stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        for stage, (count, out) in enumerate(zip(size.blocks, size.widths, strict=True), start=1):
            blocks = [_Block(width if i == 0 else out, out, 2 if i == 0 else 1) for i in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            width = out
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        side = math.ceil(ARCFACE_SIZE / (size.stem_stride * 2 ** len(size.blocks)))
        self.fc = nn.Linear(width * side * side, size.embedding)
        self.features = nn.BatchNorm1d(size.embedding)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.vector(self.stages(x)[-1])

    def stages(self, x: Tensor) -> list[Tensor]:
        """Faces as :meth:`forward` takes them to the maps after each stage, finest first."""
        maps = [self.prelu(self.bn1(self.conv1(x)))]
        for stage in range(1, len(self.size.blocks) + 1):
            maps.append(self.get_submodule(f"layer{stage}")(maps[-1]))
        return maps[1:]

    def vector(self, x: Tensor) -> Tensor:
        """Return the last stage's map to vectors."""
        return self.features(self.fc(self.dropout(self.bn2(x).flatten(1))))


class _Block(nn.Module):
    """BN, convolution, BN, PReLU, convolution, BN, beside a shortcut."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            if stride > 1 or width != out
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        return self.bn3(y) + (x if self.downsample is None else self.downsample(x))


def published_size(weights: Mapping[str, Tensor]) -> IResNetSize:
    """The size of a published IResNet, from its state dict: 18, 34, 50, 100 ... differ in the number of blocks only."""
    found = [re.match(r"layer([1-4])\.(\d+)\.", name) for name in weights]
    numbers = {(int(m[1]), int(m[2])) for m in found if m}
    return IResNetSize(tuple(sum(stage == s for stage, _ in numbers) for s in (1, 2, 3, 4)))


def load_iresnet(path: Path) -> IResNet:
    """Return an IResNet that this project trained; its size is in the file's header.

    Raises:
        UserError: not a whole safetensors file, or one of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            size = IResNetSize(**json.loads((file.metadata() or {})[SIZE_KEY]))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
        net = IResNet(size)
        # How many batches the norms have seen is not stored: nothing depends on it.
        counters = {name: value for name, value in net.state_dict().items() if not value.is_floating_point()}
        net.load_state_dict(counters | weights)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} does not hold a recogniser of this project ({reason})") from None
    return net
