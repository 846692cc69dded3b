"""Face recognition: one vector a face, as a torch network that gradients flow through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipfvr import registry
from ipfvr.catalogue import ENTRIES
from ipfvr.errors import UserError
from ipfvr.faces.align import ARCFACE_SIZE, warp_faces
from ipfvr.faces.detect import Detector, Face
from ipfvr.pixels import to_tensor

RIVAL_AREA = 0.25  # a second face of at least this share of the largest one's area may be the one that is meant
_BATCH = 32  # faces embedded at once by embed_faces
# MobileFaceNet's inverted residuals: (expansion, width, stride).
_BLOCKS = (
    *[(2, 64, 2), *[(2, 64, 1)] * 4],
    *[(4, 128, 2), *[(2, 128, 1)] * 6],
    *[(4, 128, 2), *[(2, 128, 1)] * 2],
)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Recogniser(nn.Module):
    """A recognition network with its preprocessing and its papers.

    Attributes:
        name: of the network.
        licence: of its weights.
        sha256: of its weights' file.
        path: the file.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, name: str, licence: str, path: Path) -> None:
        super().__init__()
        self.net = net
        self.name, self.licence, self.path, self.sha256 = name, licence, path, registry.sha256(path)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Recogniser:
        """Stay in evaluation mode: a judge must not change while it judges."""
        return super().train(False)

    def embed(self, images: Tensor) -> Tensor:
        """Faces to vectors: phi of Eq. 5.

        Args:
            images: (N, 3, 112, 112) RGB in [-1, 1], warped to the ArcFace template
                (:func:`ipfvr.faces.align.warp_faces`).

        Returns:
            (N, D) of Euclidean length 1.

        Raises:
            ValueError: another shape.
        """
        if images.ndim != 4 or images.shape[1:] != (3, ARCFACE_SIZE, ARCFACE_SIZE):
            raise ValueError(f"recognisers take (N, 3, {ARCFACE_SIZE}, {ARCFACE_SIZE}), not {tuple(images.shape)}")
        return F.normalize(self.net(((images + 1) / 2 - self.mean) / self.std), dim=1)


def load_recogniser(name: str) -> Recogniser:
    """Load a recogniser.

    Args:
        name: ``mobilefacenet``, or the path of a file with the same network's state dict.

    Raises:
        UserError: the file is not there (the line says how to get it) or holds another network.
    """
    path = registry.locate(name)
    net = MobileFaceNet()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(state)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} does not hold a MobileFaceNet ({reason}); fetch the file again") from None
    entry = ENTRIES.get(name)
    return Recogniser(net, entry.name if entry else path.stem, entry.licence if entry else "unknown", path)


@torch.no_grad()
def embed_faces(frames: np.ndarray, landmarks: np.ndarray, recogniser: Recogniser) -> Tensor:
    """Embeddings of the faces of frames.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        landmarks: (F, 5, 2) pixels; a row of NaN is a frame without a face.
        recogniser: the network.

    Returns:
        (F, D) of length 1, on the CPU; rows of NaN where there is no face.
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    device = recogniser.mean.device
    seen = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    rows = []
    for start in range(0, len(seen), _BATCH):
        # Warped one by one: how finely a batch is sampled depends on its largest face.
        part = seen[start : start + _BATCH]
        crops = [warp_faces(to_tensor(frames[i : i + 1]).to(device), landmarks[i : i + 1]) for i in part]
        rows.append(recogniser.embed(torch.cat(crops)).float().cpu())
    found = torch.cat(rows) if rows else torch.empty(0, 1)
    result = torch.full((len(frames), found.shape[1]), torch.nan)
    result[torch.from_numpy(seen)] = found
    return result


def reference_face(
    image: np.ndarray, detector: Detector, choose: int | None = None, name: str | Path = "picture"
) -> Face:
    """The face of a reference picture.

    Faces of less than a quarter of the largest one's area are bystanders, which are not counted.

    Args:
        image: (H, W, 3) uint8 RGB.
        detector: what finds faces.
        choose: which face is meant, counted from the left, from 1; None: there must be only one.
        name: what messages call the picture.

    Raises:
        UserError: no face; several and none chosen (the line lists them and says how to choose); a number that
            none of them has.
    """
    faces = detector.detect(image)
    if not faces:
        raise UserError(
            f"no face found in the reference {name}: give a picture that shows it larger and from the front"
        )
    largest = max(face.area for face in faces)
    faces = sorted((f for f in faces if f.area >= RIVAL_AREA * largest), key=lambda f: float(f.box[0]))
    if choose is None and len(faces) == 1:
        return faces[0]
    if choose is not None and 1 <= choose <= len(faces):
        return faces[choose - 1]
    places = ", ".join(f"{n}: {_describe(face)}" for n, face in enumerate(faces, start=1))
    if choose is None:
        raise UserError(f"the reference {name} shows {len(faces)} faces, from the left {places}; choose with --face N")
    raise UserError(f"--face {choose}: the reference {name} has face 1 to {len(faces)}, from the left {places}")


def _describe(face: Face) -> str:
    x, y, w, h = (round(float(v)) for v in face.box)
    return f"{w} x {h} pixels at ({x}, {y})"


class MobileFaceNet(nn.Module):
    """MobileFaceNet (Chen et al. 2018): (N, 3, 112, 112), normalised, to (N, 128), not normalised.

    The names of its parts are those of the published weights (foamliu/MobileFaceNet, Apache-2.0).
    """

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
