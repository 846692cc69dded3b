"""LPIPS, CLIP-IQA, MUSIQ and LIQE, computed by pyiqa (the extra ``iqa``).

pyiqa downloads files that it does not find. Here every file has to be there before (``python -m ipfvr.weights``):
pyiqa gets a folder of links to them, and has no network while it builds a metric.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.folders import cache_folder
from ipfvr.core.hashes import sha256
from ipfvr.metrics.base import FrameMetric
from ipfvr.metrics.columns import COLUMNS, labelled
from ipfvr.weights.registry import locate

PIP = "pip install 'ipfvr[iqa]'"
PYIQA_LICENCE = "pyiqa: PolyForm-Noncommercial-1.0.0"


@dataclass(frozen=True)
class Kind:
    """A metric that pyiqa computes.

    Attributes:
        name: pyiqa's.
        entry: of the weights registry.
        by_target: it compares with the ground truth.
        licence: of the network.
        places: where pyiqa looks for each file, below torch's hub folder.
        min_side: pixels; it cannot score smaller frames.
    """

    name: str
    entry: str
    by_target: bool
    licence: str
    places: tuple[str, ...]
    min_side: int


KINDS = {
    "lpips": Kind(
        "lpips", "lpips", True, "BSD-2-Clause",
        ("pyiqa/LPIPS_v0.1_alex-df73285e.pth", "checkpoints/alexnet-owt-7be5be79.pth"), 32,
    ),
    "clip_iqa": Kind(
        "clipiqa", "clip-iqa", False, "S-Lab License 1.0 (non-commercial); CLIP: MIT", ("clip/RN50.pt",), 32,
    ),
    "musiq": Kind("musiq", "musiq", False, "Apache-2.0", ("pyiqa/musiq_koniq_ckpt-e95806b9.pth",), 32),
    "liqe": Kind("liqe", "liqe", False, "MIT", ("pyiqa/liqe_koniq.pt", "clip/ViT-B-32.pt"), 224),
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network that is loaded: ``score(prediction[, target])`` of (1, 3, H, W) frames in [0, 1]; its files."""

    score: Callable[..., Tensor]
    weights: dict[str, Path]


def load_network(key: str, device: torch.device) -> Network:
    """Load the network of a metric.

    Args:
        key: of :data:`KINDS`.
        device: where it is run.

    Raises:
        UserError: pyiqa is not installed, a file is missing, or pyiqa cannot read it.
    """
    kind, reasons, folder = KINDS[key], [], Path()
    if importlib.util.find_spec("pyiqa") is None:
        reasons.append(f"{COLUMNS[key].title} is computed by pyiqa: {PIP}")
    try:
        folder = locate(kind.entry)
    except UserError as error:
        reasons.append(str(error))
    if reasons:
        raise UserError("; ".join(reasons))
    files = {place: folder / Path(place).name for place in kind.places}
    try:
        with _hub(files), _no_network(), contextlib.redirect_stdout(io.StringIO()):
            import pyiqa  # here: heavy, and under a licence that not everybody can accept

            network = pyiqa.create_metric(kind.name, device=device)
    except Exception as error:  # whatever a file that is not the right one does to it
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"pyiqa cannot make {COLUMNS[key].title} of {folder}: {reason[0]}; fetch it again") from None
    return Network(network, {f"{key} ({path.name})": path for path in files.values()})


class Perceptual(FrameMetric):
    """A metric of :data:`KINDS`, mean over the frames of a clip, then over clips.

    ``update(prediction)``, and of LPIPS ``update(prediction, target)``: frames (F, 3, H, W) in [0, 1].

    Args:
        key: of :data:`KINDS`.
        network: None leaves its name out (for a label without a number).
    """

    def __init__(self, key: str, network: Network | None = None, **kwargs: Any) -> None:
        kind = KINDS[key]
        files = {} if network is None else network.weights
        named = ", ".join(f"{path.name} (sha256 {sha256(path)})" for path in files.values())
        licence = f"{PYIQA_LICENCE}; network: {kind.licence}"
        super().__init__(labelled(key, named, licence), **kwargs)
        self.network = network

    @property
    def higher_is_better(self) -> bool:
        """The direction, for torchmetrics."""
        return self.info.higher_is_better

    def score(self, *frames: Tensor) -> Tensor:
        # Frame by frame: at 720 pixels a batch of MUSIQ's takes gigabytes.
        singles = zip(*(part.float().split(1) for part in frames), strict=True)
        return torch.cat([self.network.score(*single).reshape(1) for single in singles])


@contextlib.contextmanager
def _hub(files: dict[str, Path]) -> Iterator[None]:
    """Let torch's hub be a folder where the files lie under the names that pyiqa and torchvision look for."""
    hub = cache_folder() / "hub"
    for place, path in files.items():
        link = hub / place
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink() or link.resolve() != path.resolve():
            made = link.with_name(f".{link.name}.{os.getpid()}")
            made.symlink_to(path.resolve())
            os.replace(made, link)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(hub))
    try:
        yield
    finally:
        torch.hub.set_dir(before)


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    """Let every look-up of an address fail at once."""
    look_up = socket.getaddrinfo

    def refuse(host: object, *_: object, **__: object) -> None:
        raise OSError(f"pyiqa tried to fetch a file from {host}")

    socket.getaddrinfo = refuse
    try:
        yield
    finally:
        socket.getaddrinfo = look_up
