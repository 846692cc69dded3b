"""mini_XCEPTION: the emotion of a face (Arriaga et al. 2017; Section 3.2), read from the published Keras file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.core.errors import UserError
from ipfvr.faces.align import crop
from ipfvr.weights.registry import locate

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # the order of the network's outputs
SIDE = 64  # pixels of a side of the grey square that the network sees
_EPSILON = 1e-3  # of Keras's batch norms
# The square the network was tried on, 1.1 max(w, 0.85 h) about the box (w, h) that YuNet finds, as shares of an
# aligned crop's side: the median over CelebA pictures.
_CENTRE, _SQUARE = (0.5, 0.542), 0.69


class MiniXception(nn.Module):
    """Two convolutions, four blocks of separable ones, a convolution to seven maps and their means."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False), _norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), _norm(8), nn.ReLU()
        )
        self.blocks = nn.Sequential(*[_Block(width, 2 * width) for width in (8, 16, 32, 64)])
        self.head = nn.Conv2d(128, len(EMOTIONS), 3, padding=1)

    def forward(self, faces: Tensor) -> Tensor:
        """Grey squares (N, 1, 64, 64) in [-1, 1] to probabilities (N, 7), in the order of ``EMOTIONS``."""
        return self.head(self.blocks(self.stem(faces))).mean(dim=(2, 3)).softmax(dim=1)


class _Block(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.short = nn.Sequential(nn.Conv2d(width, out, 1, 2, bias=False), _norm(out))
        self.long = nn.Sequential(
            _separable(width, out), _norm(out), nn.ReLU(), _separable(out, out), _norm(out), _PoolSame()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.long(x) + self.short(x)


class _PoolSame(nn.Module):
    """Maximum over 3 x 3 with stride 2 and Keras's padding 'same', which gives the odd row to the end."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (side % 2 for side in x.shape[-2:])
        return functional.max_pool2d(functional.pad(x, (columns, 1, rows, 1), value=-torch.inf), 3, 2)


def _separable(width: int, out: int) -> nn.Sequential:
    depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(width, out, 1, bias=False))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=_EPSILON)


class EmotionReader:
    """The network with its weights, on aligned faces.

    Attributes:
        path: the file of the weights.
    """

    def __init__(self, network: MiniXception, path: Path) -> None:
        self.network, self.path = network, path

    @torch.inference_mode()
    def read(self, faces: Sequence[np.ndarray]) -> dict[str, float]:
        """Return the emotions' probabilities, the mean over faces.

        Args:
            faces: aligned square crops (:func:`ipfvr.faces.align.crop_matrix`), uint8 RGB, of any size.

        Raises:
            ValueError: no faces.
        """
        if not faces:
            raise ValueError("at least one face is needed")
        squares = torch.from_numpy(np.stack([grey_square(face) for face in faces]))[:, None].float() / 127.5 - 1
        return dict(zip(EMOTIONS, self.network(squares).mean(dim=0).tolist(), strict=True))


def grey_square(face: np.ndarray) -> np.ndarray:
    """Return the part of an aligned crop (S, S, 3) uint8 that the network was trained to see: (64, 64) uint8 grey."""
    side = face.shape[0]
    scale = SIDE / (_SQUARE * side)
    corner = (np.array(_CENTRE) - _SQUARE / 2) * side - 0.5
    matrix = np.hstack([np.eye(2) * scale, (-scale * corner - 0.5)[:, None]])
    return cv2.cvtColor(crop(face, matrix, SIDE), cv2.COLOR_RGB2GRAY)


def load_emotion(name: str | Path) -> EmotionReader:
    """Load mini_XCEPTION from a registered name or a Keras file.

    Raises:
        UserError: the file is not there (the line says how to get it), h5py is not installed, or the file holds
            another network.
    """
    path = locate(str(name))
    try:
        import h5py
    except ModuleNotFoundError:
        raise UserError(f"reading {path} needs h5py: pip install h5py") from None
    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)

            def keep(at: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):  # 'layer/layer_1/kernel:0'
                    arrays[f"{at.split('/')[0]}/{at.rpartition('/')[2].partition(':')[0]}"] = item[()]

            group.visititems(keep)
    except OSError as error:
        raise UserError(f"{path} is not a whole hdf5 file ({error}); fetch it again") from None
    network = MiniXception()
    network.load_state_dict(from_keras(arrays, network, path))
    return EmotionReader(network.eval().requires_grad_(False), path)


def from_keras(arrays: dict[str, np.ndarray], network: MiniXception, path: str | Path) -> dict[str, Tensor]:
    """Keras's arrays, by ``layer/array``, as the network's state dict.

    Raises:
        UserError: arrays that are missing, left over or of another shape; the line names the first.
    """
    state, left, counters = {}, dict(arrays), {}
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            counters[name] = value
            continue
        key = _keras_name(name)
        if key not in left:
            raise UserError(f"{path} does not hold mini_XCEPTION: '{key}' is missing; fetch the file again")
        array = torch.from_numpy(np.asarray(left.pop(key), dtype=np.float32))
        if array.ndim == 4:  # Keras: rows, columns, in, out; a depthwise kernel's 'out' is 1 and 'in' its groups
            array = array.permute(2, 3, 0, 1) if key.endswith("depthwise_kernel") else array.permute(3, 2, 0, 1)
        if array.shape != value.shape:
            raise UserError(f"{path} does not hold mini_XCEPTION: '{key}' has another shape; fetch the file again")
        state[name] = array.contiguous()
    if left:
        raise UserError(f"{path} does not hold mini_XCEPTION: '{sorted(left)[0]}' is left over; fetch the file again")
    return state | counters


def _keras_name(name: str) -> str:
    """Keras numbers layers as they were made: in each block the short cut's norm before the other two."""
    part, *place, kind = name.split(".")
    array = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}[kind]
    if part == "head":
        return "conv2d_7/" + {"weight": "kernel", "bias": "bias"}[kind]
    if part == "stem":
        number = int(place[0])
        return (
            f"conv2d_{number // 3 + 1}/kernel" if number % 3 == 0 else f"batch_normalization_{number // 3 + 1}/{array}"
        )
    block, branch, number = int(place[0]), place[1], int(place[2])
    if branch == "short":
        return f"conv2d_{block + 3}/kernel" if number == 0 else f"batch_normalization_{3 * block + 3}/{array}"
    if number in (1, 4):
        return f"batch_normalization_{3 * block + 4 + number // 4}/{array}"
    layer = f"separable_conv2d_{2 * block + 1 + number // 3}"
    return layer + ("/depthwise_kernel" if place[3] == "0" else "/pointwise_kernel")
