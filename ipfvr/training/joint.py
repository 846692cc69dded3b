"""Training of the denoiser together with its image prompt."""

from __future__ import annotations

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
from ipfvr.models.checkpoints import own_weights
from ipfvr.training.adapter import AdapterTraining, exchange_references
from ipfvr.training.balance import Balance
from ipfvr.training.base import correlated_noise, latent_weight
from ipfvr.training.common import learning_rate
from ipfvr.training.discriminator import PatchDiscriminator, hinge_loss
from ipfvr.training.likeness import likeness_losses


class JointTraining(AdapterTraining):
    """Minimises Eq. 3 for U-Net, ControlNet and image prompt together, with losses on the pixels of the estimate.

    A base that is trained without references learns to do without them, and an image prompt that is trained afterwards
    can only correct its output. Here the base itself learns to use the reference. A share ``loss.drop_image`` of the
    batches has no image prompt, as a face that is restored without reference. With a stranger's references
    (``loss.strangers``) all losses still ask for the truth, so that the network learns not to copy them.

    A sampler of one step outputs the one-step estimate. Eq. 3 alone makes it the mean of all faces that fit, which is
    blurred and resembles nobody. ``polish`` adds losses on its pixels: the identity for each of ``loss.recognisers``,
    the feature maps of a recogniser, and towards the end a discriminator's score. Pixels that are no truth
    (``data.face_only``) are replaced by those of the truth, so that they have no loss.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.automatic_optimization = False
        self.balance = Balance()
        self.discriminator = PatchDiscriminator() if config.polish.adversarial else None
        self.steps_a_batch = 1 if self.discriminator is None else 2

    def build(self) -> None:
        """Make ``self.network`` of the denoiser and the adapter's modules, some of which belong to both."""
        super().build()
        self.denoiser.requires_grad_(True).train()
        self.network = nn.ModuleDict({"adapter": self.network, "denoiser": self.denoiser})

    def recogniser_names(self) -> list[str]:
        """Return the recognisers that the losses of ``polish`` use."""
        return self.config.loss.recognisers if self.config.polish.identity or self.config.polish.features else []

    def configure_optimizers(self) -> list:
        """Make AdamW for the networks, as in every training, and AdamW without momentum for the discriminator."""
        optimizers = [super().configure_optimizers()["optimizer"]]
        if self.discriminator is not None:
            rate = 2 * self.config.optimizer.lr
            optimizers.append(torch.optim.AdamW(self.discriminator.parameters(), rate, betas=(0.0, 0.9)))
        return optimizers

    def training_step(self, batch: dict[str, Any], number: int) -> None:
        """Train on one batch of pictures or clips: a step of the networks, then one of the discriminator."""
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
        """Return the decoded estimate and the truth for the losses on pixels, (B * F, 3, S, S) each."""
        real, drawn = batch["pixels"].flatten(0, 1), self.drawn(restored)
        if "weight" in batch:
            weight = batch["weight"].repeat_interleave(restored.shape[2], 0)
            drawn = weight * drawn + (1 - weight) * real
        return drawn, real

    def _losses(
        self, drawn: Tensor, real: Tensor, batch: dict[str, Any], done: float
    ) -> dict[str, tuple[Tensor, float]]:
        """Compute the losses of ``polish`` that have a share, each with its share."""
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
        """Choose as the adapter's training does, but drop the image prompt of a whole batch or of none of it."""
        if torch.rand(()) < self.config.loss.drop_image:
            return None, batch["reference"], torch.zeros(len(batch["reference"]), dtype=torch.bool)
        everyone = torch.ones(
            len(batch["reference"]), dtype=torch.bool
        )  # on the CPU, where indexing does not wait for a GPU
        shown, strange = exchange_references(batch["reference"], everyone, self.config.loss.strangers)
        return self.image_tokens(shown, everyone), shown, strange

    def nobody(self, references: Tensor) -> None:
        """Return None: a face without reference has no image tokens here."""

    def export(self, folder: Path) -> list[Path]:
        """Write ``denoiser.safetensors`` and ``adapter.safetensors``, which belong together."""
        files = [folder / "denoiser.safetensors", folder / "adapter.safetensors"]
        save_module(own_weights(self.ema["denoiser"]), files[0], self.metadata())
        save_module(self.ema["adapter"].state_dict(), files[1], self.metadata() | adapter_header(self.prompt))
        return files


def make_joint_training(config: Config) -> tuple[JointTraining, FaceData]:
    """Make the training, and its data; with ``data.on_device`` the batches are made on the training's device."""
    return JointTraining(config), DeviceFaceData(config) if config.data.on_device else FaceData(config)
