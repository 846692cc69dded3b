"""Contrastive training of a small text and image encoder on pictures and the sentences of their attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.conditioning.attributes import WORDS, compose_sentence
from ipfvr.core.options import Config
from ipfvr.data.faces import FaceData
from ipfvr.models.backbone import make_image_encoder, make_text_encoder, save_module
from ipfvr.models.text import train_tokenizer
from ipfvr.training.common import Trained


class ClipTraining(Trained):
    """Minimises CLIP's symmetric cross-entropy between the pictures and captions of a batch."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        text, image = make_text_encoder(config), make_image_encoder(config)
        self.network = nn.ModuleDict({"text": text, "image": image}).requires_grad_(True).train()
        self.network.register_parameter("log_scale", nn.Parameter(torch.tensor(2.66)))
        self.average()

    def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
        """Compute the loss of one batch."""
        loss, accuracy = self._loss(self.network, batch)
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        """Log the average's loss, and how often a picture's best sentence of the batch is its own."""
        loss, accuracy = self._loss(self.ema, batch)
        metrics = {"val/loss": loss, "val/accuracy": accuracy}
        self.log_dict(metrics, batch_size=len(batch["text"]), sync_dist=True)

    def export(self, folder: Path) -> list[Path]:
        """Write ``text.safetensors`` and ``image.safetensors``."""
        files = [folder / "text.safetensors", folder / "image.safetensors"]
        for part, file in zip(("text", "image"), files, strict=True):
            save_module(self.ema[part].clip.state_dict(), file, self.metadata())
        return files

    def _loss(self, network: nn.ModuleDict, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        words = functional.normalize(network["text"].project(batch["text"]), dim=-1)
        pictures = functional.normalize(network["image"].project(batch["pixels"][:, 0]), dim=-1)
        scores = network.log_scale.exp().clamp(max=100) * pictures @ words.T
        # All sentences of a batch that equal the right one count as right.
        same = torch.tensor([[a == b for b in batch["text"]] for a in batch["text"]], device=scores.device).float()
        target = same / same.sum(1, keepdim=True)
        loss = (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2
        right = same.gather(1, scores.argmax(1, keepdim=True)).mean()
        return loss, right


def make_tokenizer(config: Config, folder: Path) -> None:
    """Learn the vocabulary of the attributes' sentences and write it to ``folder``."""
    texts = [
        f"{compose_sentence({name: value})} . , {word}" for name, (_, word) in WORDS.items() for value in (True, False)
    ]
    texts += [config.prompt.positive, config.prompt.negative, "a young man", "a young woman", "a good video"]
    train_tokenizer(texts, config.text.vocab_size, folder)


def make_clip_training(config: Config) -> tuple[ClipTraining, FaceData]:
    """Make the training, and its data: pictures and clips of many people."""
    return ClipTraining(config), FaceData(config)
