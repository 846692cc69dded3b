"""Optical flow behind one interface: torchvision's RAFT, which needs a file, and OpenCV's DIS, which needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.weights.catalogue import ENTRIES
from ipfvr.weights.registry import find, locate

FLOWS = ("auto", "raft", "dis")
DIS_MIN_SIDE = 12  # OpenCV refuses smaller pictures
RAFT_MIN_SIDE = 128  # smaller ones have no picture left at the coarsest of its correlations
RAFT_UNIT = 8  # its sides are multiples of this


class Flow(Protocol):
    """The interface of optical flow."""

    name: str  # printed with every number that rests on it
    licence: str
    weights: dict[str, Path]  # the file it was made from, for provenance
    min_side: int  # pixels; smaller pictures have no flow

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """Motion of each pixel of ``first``, (N, 2, H, W) as (x, y) in pixels: it lies at p + flow(p) in ``second``.

        Args:
            first, second: (N, 3, H, W) RGB in [0, 1].
        """
        ...


class DIS:
    """Dense inverse search (Kroeger et al. 2016) of OpenCV: preset medium, down to the full resolution, on luma."""

    name = "DIS (OpenCV)"
    licence = "Apache-2.0 (OpenCV)"
    min_side = DIS_MIN_SIDE

    def __init__(self) -> None:
        self.weights: dict[str, Path] = {}

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See :class:`Flow`."""
        pairs = zip(_luma(first), _luma(second), strict=True)
        found = np.stack([self._search().calc(a, b, None) for a, b in pairs])
        return torch.from_numpy(found).permute(0, 3, 1, 2).to(first.device)

    @staticmethod
    def _search() -> cv2.DISOpticalFlow:
        # New for each pair: OpenCV's object cannot be copied with a metric, and making one costs nothing.
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(0)  # the preset stops at half resolution, too coarse for a face of 128 pixels
        return search


class RAFT:
    """RAFT (Teed and Deng 2020) of torchvision, 12 updates.

    Args:
        entry: ``raft-large`` or ``raft-small``, names in the weights registry.

    Raises:
        UserError: the file is missing, or is not the one of that name.
    """

    min_side = 1  # smaller pictures are extended

    def __init__(self, entry: str) -> None:
        from torchvision.models import optical_flow  # here: importing it takes seconds

        path, expected = locate(entry), ENTRIES[entry]
        if not expected.files[0].matches(sha256(path)):
            raise UserError(f"{path} is not '{entry}': its sha256 is another; python -m ipfvr.weights fetch {entry}")
        self.name = f"RAFT {entry.removeprefix('raft-')} ({path.name})"
        self.licence, self.weights = expected.licence, {entry: path}
        make = optical_flow.raft_large if entry == "raft-large" else optical_flow.raft_small
        self.net: nn.Module = make(weights=None).eval().requires_grad_(False)
        self.net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    @torch.no_grad()
    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See :class:`Flow`; sides are extended to multiples of 8, at least 128, by repeating the border."""
        self.net.to(first.device)
        height, width = first.shape[-2:]
        high, wide = (max(-(-n // RAFT_UNIT) * RAFT_UNIT, RAFT_MIN_SIDE) for n in (height, width))
        padding = (0, wide - width, 0, high - height)
        a, b = (F.pad(2 * picture.float() - 1, padding, mode="replicate") for picture in (first, second))
        return self.net(a, b)[-1][..., :height, :width]


def make_flow(choice: str) -> Flow:
    """Make the flow of a name.

    Args:
        choice: ``raft``: large, or small where only its file is there; ``dis``; ``auto``: RAFT where a file of it is
            there, else DIS. Whichever it is, its name says so.

    Raises:
        UserError: ``raft`` without a file; an unknown name.
    """
    if choice not in FLOWS:
        raise UserError(f"flow '{choice}' is unknown; choose one of {', '.join(FLOWS)}")
    there = [entry for entry in ("raft-large", "raft-small") if find(ENTRIES[entry]) is not None]
    if choice == "dis" or (choice == "auto" and not there):
        return DIS()
    return RAFT((there or ["raft-large"])[0])


def _luma(pictures: Tensor) -> list[np.ndarray]:
    """(N, 3, H, W) RGB in [0, 1] to N arrays (H, W) uint8."""
    frames = (pictures.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return [cv2.cvtColor(np.ascontiguousarray(f.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY) for f in frames]
