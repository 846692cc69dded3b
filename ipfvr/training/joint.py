"""Training of the denoiser and its image prompt together, from the start."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ipfvr.models.adapter import adapter_header
from ipfvr.models.backbone import save_module
from ipfvr.models.checkpoints import save_denoiser
from ipfvr.training.adapter import AdapterTraining, exchange_references


class JointTraining(AdapterTraining):
    """The losses of :class:`~ipfvr.training.adapter.AdapterTraining` for U-Net, ControlNet and image prompt.

    A base that learns without references learns to do without them, and a prompt that is added to it afterwards can
    only correct what it makes. Here the base learns to look at the reference. A share ``loss.drop_image`` of the
    batches has no image prompt at all, which is how a face without a reference is restored. Of a stranger's references
    (``loss.strangers``) Eq. 3 wants the truth all the same, so that the network learns not to copy them.
    """

    def build(self) -> None:
        """Make ``self.network``: the adapter's modules, some of which the denoiser has too, and the denoiser."""
        super().build()
        self.denoiser.requires_grad_(True).train()
        self.network = nn.ModuleDict({"adapter": self.network, "denoiser": self.denoiser})

    def show(self, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor, Tensor]:
        """As the adapter's, but a batch goes without an image prompt as a whole."""
        if torch.rand(()) < self.config.loss.drop_image:
            references = batch["reference"]
            return None, references, torch.zeros(len(references), dtype=torch.bool, device=references.device)
        everyone = torch.ones(len(batch["reference"]), dtype=torch.bool, device=batch["reference"].device)
        shown, strange = exchange_references(batch["reference"], everyone, self.config.loss.strangers)
        return self.image_tokens(shown, everyone), shown, strange

    def nobody(self, references: Tensor) -> None:
        """No image tokens."""

    def export(self, folder: Path) -> list[Path]:
        """``denoiser.safetensors`` and ``adapter.safetensors``, which belong together."""
        files = [folder / "denoiser.safetensors", folder / "adapter.safetensors"]
        save_denoiser(copy.deepcopy(self.ema["denoiser"]).half(), files[0], self.metadata())
        save_module(self.ema["adapter"].state_dict(), files[1], self.metadata() | adapter_header(self.prompt))
        return files
