"""dlib's face recognition network (Davis King, CC0), in torch, read from dlib's own file.

A recogniser whose weights are in the public domain, which gradients flow through. ``mini/dlib`` is shipped, in half
precision and with what dlib keeps apart folded together; ``dlib`` is the file itself, which comes with the Python
package ``face-recognition-models``.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic
from ipfvr.faces.align import ARCFACE_SIZE

INPUT = 150  # pixels of a side of dlib's chips
# Left, top and side of dlib's chip (padding 0.25) in pixels of ArcFace's 112 x 112 crop: the median over 60 pictures
# aligned by five points whose chips dlib's own 68 landmarks cut out. Its lowest eighth lies below the crop.
CHIP = (6.0, 22.0, 100.8)
_HEADER = "dlib"  # of the shipped file: what it was made from
# Width and blocks of each stage, and whether its first block halves the map.
_STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))


class DlibResNet(nn.Module):
    """Faces (N, 3, 112, 112), normalised, to vectors (N, 128).

    A ResNet of 29 convolutions on 150 x 150 chips, which are cut out of the crops at :data:`CHIP`; what lies below them
    repeats their border. dlib compares Euclidean distances, and its vectors are not spread about zero: two people's
    cosine is about 0.84, one person's 0.95.
    """

    MEAN, STD = (122.782 / 255, 117.001 / 255, 104.298 / 255), (256 / 255,) * 3  # (255 x - mean) / 256, x in [0, 1]

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2)
        blocks, width = [], 32
        for out, count, halved in _STAGES:
            blocks += [_Block(width if i == 0 else out, out, halved and i == 0) for i in range(count)]
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(width, 128, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.of_chips(self.chips(x))

    def chips(self, x: Tensor) -> Tensor:
        """ArcFace's crops (N, 3, 112, 112) to dlib's chips (N, 3, 150, 150)."""
        left, top, side = CHIP
        place = torch.linspace(0, side, INPUT, device=x.device, dtype=x.dtype) * (2 / (ARCFACE_SIZE - 1)) - 1
        across, down = (place + 2 * shift / (ARCFACE_SIZE - 1) for shift in (left, top))
        y, x_ = torch.meshgrid(down, across, indexing="ij")
        grid = torch.stack([x_, y], -1).expand(len(x), -1, -1, -1)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)

    def of_chips(self, x: Tensor) -> Tensor:
        """dlib's chips (N, 3, 150, 150), normalised, to vectors (N, 128)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2)
        return self.fc(self.blocks(x).mean((2, 3)))


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which is averaged down where the block halves."""

    def __init__(self, width: int, out: int, halved: bool) -> None:
        super().__init__()
        self.halved = halved
        self.conv1 = nn.Conv2d(width, out, 3, 2 if halved else 1, 0 if halved else 1)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        shortcut = F.avg_pool2d(x, 2) if self.halved else x
        # dlib adds maps of different sizes as if the smaller one went on with zeros.
        size = [max(a, b) for a, b in zip(y.shape[1:], shortcut.shape[1:], strict=True)]
        return F.relu(_extended(y, size) + _extended(shortcut, size))


def _extended(x: Tensor, size: list[int]) -> Tensor:
    channels, height, width = (wanted - have for wanted, have in zip(size, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


def load_dlib(path: Path) -> DlibResNet:
    """Read ``dlib_face_recognition_resnet_model_v1.dat``.

    Raises:
        UserError: not that file, or not whole.
    """
    net = DlibResNet()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    try:
        layers = list(_layers(path.read_bytes()))
        kinds = [kind for kind, _ in layers]
        if kinds != ["con", "affine"] * len(convolutions) + ["fc"]:
            raise ValueError(f"{len(layers)} layers")
        for number, conv in enumerate(convolutions):
            _fold(conv, layers[2 * number][1], layers[2 * number + 1][1])
        net.fc.weight.data = layers[-1][1].reshape(256, 128).T.contiguous()
    except (ValueError, RuntimeError, struct.error, IndexError) as error:
        raise UserError(f"{path} is not dlib's face recognition network ({error}); fetch the file again") from None
    return net


def save_dlib(net: DlibResNet, path: Path, source: str) -> None:
    """Write the network as the package ships it: half precision, and in the header what file it was made from.

    Args:
        net: from :func:`load_dlib`.
        path: a ``.safetensors`` file, written whole or not at all.
        source: what the header says of the original.
    """
    weights = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    with atomic(path) as temporary:
        save_file(weights, temporary, metadata={_HEADER: source})  # one entry: several would come in any order


def is_shipped_dlib(path: Path) -> bool:
    """Return whether the header of a safetensors file says that :func:`save_dlib` wrote it."""
    with contextlib.suppress(SafetensorError), safe_open(path, "pt") as file:
        return _HEADER in (file.metadata() or {})
    return False


def load_shipped_dlib(path: Path) -> DlibResNet:
    """Read what :func:`save_dlib` wrote.

    Raises:
        UserError: not whole, or of another network.
    """
    net = DlibResNet()
    try:
        net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} does not hold dlib's network ({str(error).splitlines()[0]})") from None
    return net


def _fold(conv: nn.Conv2d, parameters: Tensor, affine: Tensor) -> None:
    """Filters and biases, and the channels' gain and offset that follow them, as one convolution."""
    count = conv.weight.numel()
    weight, bias = parameters[:count].reshape(conv.weight.shape), parameters[count:]
    gain, offset = affine.chunk(2)
    conv.weight.data = weight * gain[:, None, None, None]
    conv.bias.data = bias * gain + offset


def _layers(data: bytes) -> Iterator[tuple[str, Tensor]]:
    """Parameters of the layers that have some, in the order that data flows through them."""
    end = 0
    for tag in re.finditer(rb"(con|affine|fc)_\d?", data):
        if tag.start() < end:
            continue  # numbers that look like a tag
        kind, at = tag[1].decode(), tag.end()
        for _ in range(2 if kind == "fc" else 0):  # outputs, inputs
            _, at = _integer(data, at)
        version, at = _integer(data, at)
        sizes = []
        for _ in range(4):
            size, at = _integer(data, at)
            sizes.append(size)
        count = int(np.prod(sizes))
        end = at + 4 * count
        if version != 2 or min(sizes) < 1 or end > len(data):
            raise ValueError(f"a {kind} layer of {sizes}")
        yield kind, torch.from_numpy(np.frombuffer(data, "<f4", count, at).copy())


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """dlib's integers: how many bytes follow, its highest bit the sign, then these, lowest first."""
    control = data[at]
    end = at + 1 + (control & 0x0F)
    value = int.from_bytes(data[at + 1 : end], "little")
    return -value if control & 0x80 else value, end
