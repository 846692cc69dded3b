"""Training of the denoiser and its image prompt together, once each has learnt by itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ipfvr.models.adapter import adapter_header
from ipfvr.models.backbone import save_module
from ipfvr.models.checkpoints import save_denoiser
from ipfvr.training.adapter import AdapterTraining


class JointTraining(AdapterTraining):
    """The adapter's losses (see :class:`~ipfvr.training.adapter.AdapterTraining`) for all of U-Net, ControlNet, K_i,
    V_i and projection.

    A frozen base can only add to its features what Eq. 4 brings; a base that learns with it also makes room for it, and
    the identity loss teaches it to keep what there is of a face where nobody is shown. A share ``loss.drop_image`` of
    the batches has no image prompt at all, which is how ``image_prompt.without: none`` restores without a reference.
    """

    def build(self) -> None:
        """``self.network``: the adapter's modules, some of which the denoiser has too, and the denoiser."""
        super().build()
        self.denoiser.requires_grad_(True).train()
        self.network = nn.ModuleDict({"adapter": self.network, "denoiser": self.denoiser})

    def show(self, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor, Tensor]:
        """As the adapter's, but a whole batch goes without."""
        if torch.rand(()) < self.config.loss.drop_image:
            references = batch["reference"]
            return None, references, torch.zeros(len(references), dtype=torch.bool, device=references.device)
        return super().show(batch)

    def nobody(self, references: Tensor) -> None:
        """No image tokens."""

    def export(self, folder: Path) -> list[Path]:
        """``denoiser.safetensors`` and ``adapter.safetensors``, which belong together."""
        files = [folder / "denoiser.safetensors", folder / "adapter.safetensors"]
        save_denoiser(copy.deepcopy(self.ema["denoiser"]).half(), files[0], self.metadata())
        save_module(self.ema["adapter"].state_dict(), files[1], self.metadata() | adapter_header(self.prompt))
        return files
