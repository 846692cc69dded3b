"""Face restoration networks for single pictures, which spandrel runs in this process."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ipfvr.core.devices import choose_device
from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config
from ipfvr.core.pixels import resize, resize_frame, to_frames, to_tensor
from ipfvr.methods.base import Case, Report, low_frames, write_frames
from ipfvr.methods.inprocess import command_line
from ipfvr.weights.catalogue import ENTRIES
from ipfvr.weights.registry import locate

SIDE = 512  # pixels; all three networks were trained on aligned crops of this size
BATCH = 4


@dataclass(frozen=True)
class Network:
    """A restoration network for single pictures.

    Attributes:
        title: the name in the paper's tables.
        entry: the name of its weights in the registry.
        packages: the packages that it needs, by their names for pip.
        arguments: the arguments of its forward pass.
    """

    title: str
    entry: str
    packages: tuple[str, ...] = ("spandrel",)
    arguments: tuple[tuple[str, float], ...] = ()


# CodeFormer's weight 0.5 is what its authors use on aligned faces; the paper does not say.
NETWORKS = {
    "codeformer_spandrel": Network(
        "CodeFormer", "codeformer", ("spandrel", "spandrel_extra_arches"), (("weight", 0.5),)
    ),
    "gfpgan": Network("GFPGAN", "gfpgan"),
    "restoreformer": Network("RestoreFormer", "restoreformer"),
}


class PictureNetwork:
    """A network that restores each frame independently at 512 pixels, without a reference.

    See :class:`ipfvr.methods.base.Method`.

    Args:
        name: the name of the row, a key of :data:`NETWORKS`.
        config: gives the device.
    """

    family = "picture"

    def __init__(self, name: str, config: Config) -> None:
        self.name, self.network = name, NETWORKS[name]
        self.title, self.licence = self.network.title, ENTRIES[self.network.entry].licence
        self.device = choose_device(config.device)
        self._loaded: torch.nn.Module | None = None

    def missing(self) -> str | None:
        """See :class:`ipfvr.methods.base.Method`."""
        absent = [name for name in self.network.packages if importlib.util.find_spec(name) is None]
        if absent:
            return f"{self.title} needs {' and '.join(absent)}: pip install {' '.join(absent)}"
        try:
            locate(self.network.entry)
        except UserError as error:
            return str(error)
        return None

    def settings(self) -> dict[str, Any]:
        """See :class:`ipfvr.methods.base.Method`."""
        digest = None if self.missing() else sha256(locate(self.network.entry))
        return {"method": self.name, "weights": digest, "arguments": dict(self.network.arguments)}

    def restore(self, case: Case, output: Path) -> Report:
        """See :class:`ipfvr.methods.base.Method`."""
        began = time.perf_counter()
        reason = self.missing()
        if reason is not None:
            raise UserError(reason)
        torch.manual_seed(case.seed)  # GFPGAN's decoder adds noise
        write_frames(self._frames(case), case, output)
        weights = {self.network.entry: locate(self.network.entry)}
        seconds = time.perf_counter() - began
        return Report(seconds, case.frames, weights=weights, command=command_line(self.name, case, output))

    def _frames(self, case: Case) -> Iterator[np.ndarray]:
        held: list[np.ndarray] = []
        for index, frame in enumerate(low_frames(case)):
            held.append(frame)
            if len(held) == BATCH or index + 1 == case.frames:
                yield from (resize_frame(image, case.size, case.size) for image in self._restore(np.stack(held)))
                held = []

    @torch.no_grad()
    def _restore(self, low: np.ndarray) -> np.ndarray:
        network = self._load()
        # GFPGAN flattens its features by view, which fails on channels-last tensors.
        pixels = resize(to_tensor(low).to(self.device), SIDE).contiguous()
        return to_frames(network(pixels, **dict(self.network.arguments))[0])

    def _load(self) -> torch.nn.Module:
        if self._loaded is None:
            import spandrel  # imported here, since it is an optional package

            if "spandrel_extra_arches" in self.network.packages:
                import spandrel_extra_arches

                spandrel_extra_arches.install(ignore_duplicates=True)
            loader = spandrel.ModelLoader(device=self.device)
            # The network itself is used: spandrel's descriptor takes and gives [0, 1] for RestoreFormer only, but
            # all three were trained on [-1, 1].
            self._loaded = loader.load_from_file(locate(self.network.entry)).model.eval().requires_grad_(False)
        return self._loaded
