"""Face recognition: one vector for each face, by a torch network that passes gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.core.pixels import to_tensor
from ipfvr.faces.align import ARCFACE_SIZE, warp_faces
from ipfvr.faces.detect import Detector, Face
from ipfvr.faces.dlib_resnet import is_shipped_dlib, load_dlib, load_shipped_dlib
from ipfvr.faces.iresnet import IResNet, load_iresnet, published_size
from ipfvr.faces.mobilefacenet import MobileFaceNet
from ipfvr.faces.onnx_graph import load_onnx
from ipfvr.weights import registry
from ipfvr.weights.catalogue import ENTRIES, shipped_licence

RIVAL_AREA = 0.25  # a second face of at least this share of the largest one's area may be the one that is meant
_BATCH = 32  # faces embedded at once by embed_faces
_PACK_FILES = ("w600k_r50.onnx", "glintr100.onnx")  # the recognisers of buffalo_l and antelopev2


class Recogniser(nn.Module):
    """A recognition network with its preprocessing, its files and its licence.

    Args:
        net: (N, 3, 112, 112), normalised by its own ``MEAN`` and ``STD`` of colours in [0, 1], to (N, D).
        name, licence, path: see below.

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
        self.name, self.licence, self.path, self.sha256 = name, licence, path, sha256(path)
        self.register_buffer("mean", torch.tensor(net.MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(net.STD)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Recogniser:
        """Stay in evaluation mode: a recogniser must not change while it scores."""
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
    """Load a recogniser; the content of the file decides which network it is.

    Args:
        name: in the weights registry (``mobilefacenet``, ``mini/dlib``, ``dlib``, ``mini/recogniser``, ``buffalo_l``,
            ``antelopev2``) or a path: a state dict of MobileFaceNet or of a published IResNet (``.pt``, ``.pth``),
            dlib's own file (``.dat``), this project's own (``.safetensors``), or an ArcFace-class network as ONNX, or
            an insightface pack's folder with one.

    Raises:
        UserError: the file is not there (the line says how to get it) or holds another network; ``onnx`` is needed
            and missing.
    """
    path = registry.locate(name)
    if path.is_dir():
        path = _in_pack(path)
    if path.suffix == ".onnx":
        net: nn.Module = load_onnx(path)
    elif path.suffix == ".safetensors":
        net = load_shipped_dlib(path) if is_shipped_dlib(path) else load_iresnet(path)
    elif path.suffix == ".dat":
        net = load_dlib(path)
    else:
        net = _from_state_dict(path)
    entry, own = ENTRIES.get(name), name in registry.shipped()
    licence = shipped_licence(name) if own else entry.licence if entry else "unknown"
    return Recogniser(net, name if own or entry else path.stem, licence, path)


def _in_pack(folder: Path) -> Path:
    found = [folder / file for file in _PACK_FILES if (folder / file).is_file()]
    if len(found) != 1:
        raise UserError(f"{folder} is not an insightface pack: it must hold one of {', '.join(_PACK_FILES)}")
    return found[0]


def _from_state_dict(path: Path) -> nn.Module:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        mobile = "gdconv.depthwise.weight" in weights
        net = MobileFaceNet() if mobile else IResNet(published_size(weights))
        net.load_state_dict(weights)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} holds neither MobileFaceNet nor an IResNet ({reason}); fetch the file again") from None
    return net


@torch.no_grad()
def embed_faces(frames: np.ndarray, landmarks: np.ndarray, recogniser: Recogniser) -> Tensor:
    """Embeddings of the faces of frames.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        landmarks: (F, 5, 2) pixels; a row of NaN is a frame without a face.
        recogniser: the network.

    Returns:
        (F, D) of length 1, on the CPU; rows of NaN where there is no face. (F, 1) of NaN where no frame has a face.
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
    # Where no frame has a face the network is asked for D with a grey picture.
    found = torch.cat(rows or [recogniser.embed(torch.zeros(1, 3, *[ARCFACE_SIZE] * 2, device=device))[:0].cpu()])
    result = torch.full((len(frames), found.shape[1]), torch.nan)
    result[torch.from_numpy(seen)] = found
    return result


def reference_face(
    image: np.ndarray, detector: Detector, choose: int | None = None, name: str | Path = "picture"
) -> Face:
    """Return the face of a reference picture.

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
