"""Training of the denoiser and its image prompt together, from the start."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.core.options import Config
from ipfvr.data.device.batches import DeviceFaceData
from ipfvr.data.faces import FaceData
from ipfvr.models.adapter import adapter_header
from ipfvr.models.backbone import save_module
from ipfvr.models.checkpoints import save_denoiser
from ipfvr.training.adapter import AdapterTraining, exchange_references
from ipfvr.training.balance import Balance
from ipfvr.training.base import correlated_noise, latent_weight
from ipfvr.training.common import learning_rate
from ipfvr.training.discriminator import PatchDiscriminator, hinge_loss
from ipfvr.training.likeness import likeness_losses


class JointTraining(AdapterTraining):
    """Eq. 3 for U-Net, ControlNet and image prompt together, and what the one-step estimate learns in pixels.

    A base that learns without references learns to do without them, and a prompt that is added to it afterwards can
    only correct what it makes. Here the base learns to look at the reference. A share ``loss.drop_image`` of the
    batches has no image prompt at all, which is how a face without a reference is restored. Of a stranger's references
    (``loss.strangers``) all losses want the truth all the same, so that the network learns not to copy them.

    The estimate of one step is what the sampler of one step shows. Eq. 3 alone makes it the mean of all faces that fit,
    which is blurred and nobody's; ``polish`` weighs what the pixels must be besides: of the same person for each of
    ``loss.recognisers``, like the truth in a recogniser's maps, and in the end like a photograph for a discriminator.
    Where the truth is none (``data.face_only``) the pixels are the truth's own.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.automatic_optimization = False
        self.balance = Balance()
        self.discriminator = PatchDiscriminator() if config.polish.adversarial else None
        self.steps_a_batch = 1 if self.discriminator is None else 2

    def build(self) -> None:
        """Make ``self.network``: the adapter's modules, some of which the denoiser has too, and the denoiser."""
        super().build()
        self.denoiser.requires_grad_(True).train()
        self.network = nn.ModuleDict({"adapter": self.network, "denoiser": self.denoiser})

    def recogniser_names(self) -> list[str]:
        """Those that ``polish`` looks through."""
        return self.config.loss.recognisers if self.config.polish.identity or self.config.polish.features else []

    def configure_optimizers(self) -> list:
        """AdamW for the networks, as every training's, and for the discriminator, without momentum."""
        optimizers = [super().configure_optimizers()["optimizer"]]
        if self.discriminator is not None:
            rate = 2 * self.config.optimizer.lr
            optimizers.append(torch.optim.AdamW(self.discriminator.parameters(), rate, betas=(0.0, 0.9)))
        return optimizers

    def training_step(self, batch: dict[str, Any], number: int) -> None:
        """One batch of pictures or clips: the networks' step, then the discriminator's."""
        settings, done = self.config.optimizer, self.done()
        rate = settings.lr * learning_rate(self.global_step // self.steps_a_batch, done, settings)
        optimizers = self.optimizers()
        optimizer, critic = optimizers if self.discriminator is not None else (optimizers, None)
        for one, share in ((optimizer, 1), (critic, 2)):
            if one is not None:
                one.param_groups[0]["lr"] = share * rate
        z_hq, z_lq = self.latents(batch)
        text = self.embed(self.drop_text(batch["text"]))
        step, noise = self.draw_steps(len(z_hq)), correlated_noise(z_hq, self.config.sampler.noise_correlation)
        tokens, _, _ = self.show(batch)
        loss, restored = self.estimate(self.denoiser, text, z_hq, z_lq, step, noise, tokens, latent_weight(batch, z_hq))
        terms = {"rec": loss.detach()}
        drawn, real = self._pixels(batch, restored)
        loss, values = self.balance.add(loss, drawn, real, lambda pixels: self._losses(pixels, real, batch, done))
        terms |= values
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, settings.clip_norm, "norm")
        optimizer.step()
        if critic is not None:
            count = self.config.polish.discriminated
            terms["critic"] = hinge_loss(self.discriminator(real[:count]), self.discriminator(drawn[:count].detach()))
            critic.zero_grad()
            self.manual_backward(terms["critic"])
            critic.step()
        kind = "clips" if z_hq.shape[2] > 1 else "pictures"
        self.log_dict({f"loss/{name}_{kind}": value for name, value in terms.items()}, batch_size=len(z_hq))
        self.log("done", done, prog_bar=True)

    def _pixels(self, batch: dict[str, Any], restored: Tensor) -> tuple[Tensor, Tensor]:
        """What the losses on pixels see, (B * F, 3, S, S) each: the decoded estimate, and the truth."""
        real, drawn = batch["pixels"].flatten(0, 1), self.drawn(restored)
        if "weight" in batch:
            weight = batch["weight"].repeat_interleave(restored.shape[2], 0)
            drawn = weight * drawn + (1 - weight) * real
        return drawn, real

    def _losses(
        self, drawn: Tensor, real: Tensor, batch: dict[str, Any], done: float
    ) -> dict[str, tuple[Tensor, float]]:
        """The losses of ``polish`` that are on, each with its share."""
        polish = self.config.polish
        points = np.asarray(batch["landmarks"]).repeat(len(real) // len(batch["landmarks"]), 0)
        rng = np.random.default_rng([self.config.seed, self.global_rank, self.global_step])  # the same after a resume
        losses = likeness_losses(self.recognisers, drawn, real, points, polish, self.config.loss.identity_jitter, rng)
        if self.discriminator is not None and done >= polish.begin:
            count = polish.discriminated
            maps = self.discriminator.maps(drawn[:count])
            losses["adversarial"] = (-maps[-1].mean(), polish.adversarial)
            if polish.matching:
                with torch.no_grad():
                    true = self.discriminator.maps(real[:count])
                apart = [functional.l1_loss(a, b) for a, b in zip(maps[:-1], true[:-1], strict=True)]
                losses["matching"] = (torch.stack(apart).mean(), polish.matching)
        return losses

    def show(self, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor, Tensor]:
        """As the adapter's, but a batch goes without an image prompt as a whole."""
        if torch.rand(()) < self.config.loss.drop_image:
            return None, batch["reference"], torch.zeros(len(batch["reference"]), dtype=torch.bool)
        everyone = torch.ones(len(batch["reference"]), dtype=torch.bool)  # where a choice needs no waiting for a GPU
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


def make_joint_training(config: Config) -> tuple[JointTraining, FaceData]:
    """The training, and pictures and clips of many people; with ``data.on_device`` batches are made on the GPU."""
    return JointTraining(config), DeviceFaceData(config) if config.data.on_device else FaceData(config)
