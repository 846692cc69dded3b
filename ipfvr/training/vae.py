"""Training of the codec, which reconstructs sharp frames from true latents and from restored ones."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ipfvr.core.options import Config
from ipfvr.data.faces import FaceData
from ipfvr.diffusion.sampler import LatentTarget
from ipfvr.diffusion.schedule import Schedule
from ipfvr.models.backbone import make_codec, make_denoiser, make_text_encoder, save_module
from ipfvr.models.vae import start_from_principal_components
from ipfvr.training.common import Trained, learning_rate, mean_psnr
from ipfvr.training.discriminator import PatchDiscriminator, hinge_loss


class CodecTraining(Trained):
    """Minimises L1 on pixels and on their differences, and a hinge loss against a discriminator of patches.

    A share ``loss.restored`` of the batches decodes the denoiser's one-step restorations instead of the truth's
    latents, so that the decoder learns on what the sampler will give it. The decoder then adds texture that the latents
    do not determine, and adds the same in every frame with the same latent.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.automatic_optimization = False
        self.steps_a_batch = 2 if config.loss.adversarial else 1
        self.network = make_codec(config, trained=True)
        self.network.vae.decoder.requires_grad_(True).train()
        self.network.vae.post_quant_conv.requires_grad_(True).train()
        if config.loss.train_encoder:
            self.network.requires_grad_(True).train()
        self.discriminator = PatchDiscriminator()
        if config.loss.restored:
            self.denoiser, text = make_denoiser(config), make_text_encoder(config)
            with torch.no_grad():
                self.register_buffer("words", text([config.prompt.positive]), persistent=False)
            self.schedule, self.target = Schedule(config.schedule), LatentTarget(config.sampler.residual_scale)
        self.average()

    def on_fit_start(self) -> None:
        """Initialise as the principal components of the data's patches, unless there are weights to start from."""
        if self.config.weights.vae or self.trainer.ckpt_path:
            return
        batches = islice(self.trainer.datamodule.train_dataloader(), 40)
        pictures = torch.cat([batch["pixels"].flatten(0, 1) for batch in batches])
        start_from_principal_components(self.network, pictures)
        self.average()

    def configure_optimizers(self) -> list:
        """Make AdamW for the codec, as in every training, and AdamW without momentum for the discriminator."""
        critic = torch.optim.AdamW(self.discriminator.parameters(), 2 * self.config.optimizer.lr, betas=(0.0, 0.9))
        return [super().configure_optimizers()["optimizer"], critic]

    def training_step(self, batch: dict[str, Any], number: int) -> None:
        """Train on one batch: a step of the codec, then one of the discriminator."""
        loss, step = self.config.loss, self.global_step // self.steps_a_batch
        optimizer, critic = self.optimizers()
        for one, share in ((optimizer, 1), (critic, 2)):
            one.param_groups[0]["lr"] = (
                share * self.config.optimizer.lr * learning_rate(step, self.done(), self.config.optimizer)
            )
        real = batch["pixels"].flatten(0, 1)
        restored = bool(loss.restored) and float(torch.rand(())) < loss.restored
        fake = self.network.decode(self._restored(batch) if restored else self._latents(real))
        terms = {"l1": functional.l1_loss(fake, real)}
        terms["total"] = terms["l1"] + loss.high_frequency * high_frequency_loss(fake, real)
        if loss.adversarial and step >= loss.adversarial_from:
            terms["adversarial"] = -self.discriminator(fake).mean()
            terms["total"] = terms["total"] + loss.adversarial * terms["adversarial"]
        optimizer.zero_grad()
        self.manual_backward(terms["total"])
        self.clip_gradients(optimizer, self.config.optimizer.clip_norm, "norm")
        optimizer.step()
        if loss.adversarial:
            terms["critic"] = hinge_loss(self.discriminator(real), self.discriminator(fake.detach()))
            critic.zero_grad()
            self.manual_backward(terms["critic"])
            critic.step()
        kind = "restored" if restored else "true"
        self.log_dict({f"{kind}/{name}": value for name, value in terms.items()}, batch_size=len(real))

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        """Log the PSNR of the average's round trip on held-out people, and of decoded restorations."""
        real = batch["pixels"].flatten(0, 1)
        latents = {"true": self.ema.encode(real)}
        if self.config.loss.restored:
            latents["restored"] = self._restored(batch)
        for name, z in latents.items():
            psnr = mean_psnr(self.ema.decode(z), real)
            self.log(f"val/psnr_{name}", psnr, batch_size=len(real), sync_dist=True)

    def export(self, folder: Path) -> list[Path]:
        """Write ``vae.safetensors`` in half precision."""
        file = folder / "vae.safetensors"
        save_module(self.ema.vae.state_dict(), file, self.metadata())
        return [file]

    def _latents(self, real: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.config.loss.train_encoder):
            return self.network.encode(real, noise=self.config.loss.latent_noise)

    @torch.no_grad()
    def _restored(self, batch: dict[str, Any]) -> Tensor:
        """Return the denoiser's one-step estimate at ``sampler.start_step``, (N, C, h, w)."""
        frames, start = batch["low"].shape[1], self.config.sampler.start_step
        z_lq = self.network.encode(batch["low"].flatten(0, 1)).unflatten(0, (-1, frames)).transpose(1, 2)
        count = len(z_lq)
        step, none = torch.full((count,), start, device=z_lq.device), torch.zeros(count, device=z_lq.device).long()
        z_t = self.schedule.add_noise(self.target.guess(z_lq), torch.randn_like(z_lq), step)
        scale = none + self.config.video.scale
        v = self.denoiser(
            z_t, step, self.words.expand(count, -1, -1), z_lq, none, scale, none[:, None].expand(-1, frames)
        )
        z = self.target.decode(self.schedule.denoised_from_v(z_t, v, step), z_lq)
        return z.transpose(1, 2).flatten(0, 1).float()


def high_frequency_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Return the mean absolute error of the differences between neighbouring pixels, horizontal and vertical."""
    across = functional.l1_loss(fake.diff(dim=-1), real.diff(dim=-1))
    return across + functional.l1_loss(fake.diff(dim=-2), real.diff(dim=-2))


def make_codec_training(config: Config) -> tuple[CodecTraining, FaceData]:
    """Make the training, and its data: pictures and clips of many people."""
    return CodecTraining(config), FaceData(config)
