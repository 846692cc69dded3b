"""Training of the base: the denoiser learns by Eq. 3 from pictures and clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ipfvr.core.options import Config
from ipfvr.data.faces import FaceData
from ipfvr.diffusion.sampler import LatentTarget
from ipfvr.diffusion.schedule import Schedule
from ipfvr.models.backbone import make_codec, make_denoiser, make_text_encoder, save_module
from ipfvr.models.blocks import Stem
from ipfvr.models.checkpoints import own_weights
from ipfvr.training.common import Trained, mean_psnr


class Frozen(NamedTuple):
    """What the denoiser computes before its first trained layer, for training only the layers behind it.

    Attributes:
        control: the ControlNet's features.
        stem: the U-Net's part, see :meth:`ipfvr.models.unet.VideoUNet.begin`; None if trained layers lie in it.
    """

    control: list[Tensor]
    stem: Stem | None


class BaseTraining(Trained):
    """Minimises the v-prediction loss of Eq. 3 with the low-quality latent as the ControlNet's hint.

    A share ``loss.highest_noise`` of the samples is at step ``sampler.start_step``, where sampling starts. The steps of
    the others are uniform from 0 to it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.codec, self.text = make_codec(config), make_text_encoder(config)
        self.schedule, self.target = Schedule(config.schedule), LatentTarget(config.sampler.residual_scale)
        self._words: dict[str, Tensor] = {}
        self.build()
        self.average()

    def build(self) -> None:
        """Make ``self.network``, which is trained."""
        self.network = make_denoiser(self.config).requires_grad_(True).train()

    def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
        """Compute the loss of one batch of pictures or clips."""
        z_hq, z_lq = self.latents(batch)
        text = self.embed(self.drop_text(batch["text"]))
        noise = correlated_noise(z_hq, self.config.sampler.noise_correlation)
        step, weight = self.draw_steps(len(z_hq)), latent_weight(batch, z_hq)
        loss, _ = self.estimate(self.network, text, z_hq, z_lq, step, noise, weight=weight)
        self.log("loss/clips" if z_hq.shape[2] > 1 else "loss/pictures", loss, prog_bar=True, batch_size=len(z_hq))
        return loss

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        """Log the average's loss and the PSNR of its one-step estimate, on held-out people."""
        z_hq, z_lq = self.latents(batch)
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(z_hq.shape, generator=generator).to(z_hq)
        step = torch.full((len(z_hq),), self.config.sampler.start_step, device=z_hq.device)
        loss, restored = self.estimate(self.ema, self.embed(batch["text"]), z_hq, z_lq, step, noise)
        real = batch["pixels"].flatten(0, 1)
        metrics = {"val/loss": loss}
        for name, latent in (("restored", restored), ("codec", z_hq)):
            metrics[f"val/psnr_{name}"] = mean_psnr(self.codec.decode(latent.transpose(1, 2).flatten(0, 1)), real)
        bicubic = batch["low"].flatten(0, 1)
        metrics["val/psnr_bicubic"] = mean_psnr(bicubic, real)
        self.log_dict(metrics, batch_size=len(z_hq), sync_dist=True)

    def export(self, folder: Path) -> list[Path]:
        """Write ``denoiser.safetensors`` in half precision."""
        file = folder / "denoiser.safetensors"
        save_module(own_weights(self.ema), file, self.metadata())
        return [file]

    @torch.no_grad()
    def latents(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Encode the sharp frames and the low-quality ones as latents (B, C, F, h, w)."""
        count = batch["pixels"].shape[1]
        frames = torch.cat([batch[kind].flatten(0, 1) for kind in ("pixels", "low")])
        with torch.autocast(frames.device.type, enabled=False):  # the training is about small differences of latents
            z = self.codec.encode(frames).float()
        z_hq, z_lq = z.unflatten(0, (-1, count)).transpose(1, 2).chunk(2)
        return z_hq, z_lq

    def drawn(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, F, h, w) to (B * F, 3, S, S), in single precision."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.codec.decode(latents.float().transpose(1, 2).flatten(0, 1))

    def embed(self, texts: list[str]) -> Tensor:
        """Embed texts as (B, L, D). The encoder is frozen, so each sentence is encoded once."""
        new = sorted(set(texts) - set(self._words))
        if new:
            with torch.no_grad():
                self._words.update(zip(new, self.text(new).float().cpu(), strict=True))
        return torch.stack([self._words[text] for text in texts]).to(self.device)

    def drop_text(self, texts: list[str]) -> list[str]:
        """Replace a share ``loss.drop_text`` of the captions by the default prompt."""
        dropped = torch.rand(len(texts)) < self.config.loss.drop_text
        return [self.config.prompt.positive if gone else text for text, gone in zip(texts, dropped, strict=True)]

    def draw_steps(self, count: int) -> Tensor:
        """Draw diffusion steps (count,), see the class."""
        start = self.config.sampler.start_step
        steps = torch.randint(0, start + 1, (count,), device=self.device)
        highest = torch.rand(count, device=self.device) < self.config.loss.highest_noise
        return torch.where(highest, torch.full_like(steps, start), steps)

    def estimate(
        self,
        network: Any,
        text: Tensor,
        z_hq: Tensor,
        z_lq: Tensor,
        step: Tensor,
        noise: Tensor,
        image_tokens: Tensor | None = None,
        weight: Tensor | None = None,
        frozen: Frozen | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute Eq. 3's loss and the one-step estimate of the restored latents.

        Args:
            network: the denoiser.
            text: (B, L, D).
            z_hq: latents of the truth (B, C, F, h, w).
            z_lq: latents of the low-quality frames (B, C, F, h, w).
            step: (B,).
            noise: (B, C, F, h, w).
            image_tokens: (B, N, D'), or None.
            weight: weights of positions in the loss, see :func:`latent_weight`; None weighs all alike.
            frozen: result of :meth:`frozen_features` for the same arguments; None computes it here.

        Returns:
            The loss, a scalar, and the estimate (B, C, F, h, w).
        """
        x = self.target.encode(z_hq, z_lq)
        z_t = self.schedule.add_noise(x, noise, step)
        control, stem = (None, None) if frozen is None else frozen
        v = network(z_t, step, text, *self._hints(z_lq), image_tokens=image_tokens, control=control, stem=stem)
        restored = self.target.decode(self.schedule.denoised_from_v(z_t, v, step), z_lq)
        return self.schedule.loss(v, x, noise, step, weight), restored

    @torch.no_grad()
    def frozen_features(self, text: Tensor, z_hq: Tensor, z_lq: Tensor, step: Tensor, noise: Tensor) -> Frozen:
        """Compute what no trained adapter of the U-Net's attentions changes; for the arguments see :meth:`estimate`."""
        z_t = self.schedule.add_noise(self.target.encode(z_hq, z_lq), noise, step)
        stems = self.network.begin(z_t, step, *self._hints(z_lq))
        temporal = self.network.unet.runs_temporal(z_t.shape[2])  # the stem has temporal attentions then
        return Frozen(self.network.controlnet(stems.controlnet, text), None if temporal else stems.unet)

    def _hints(self, z_lq: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return hint, t_hint, up_scale and mask_cond of :meth:`ipfvr.models.unet.VideoDenoiser.forward`."""
        count, frames = z_lq.shape[0], z_lq.shape[2]
        level = self.config.sampler.hint_step
        t_hint = torch.full((count,), max(level, 0), device=z_lq.device)
        hint = z_lq if level < 0 else self.schedule.add_noise(z_lq, torch.randn_like(z_lq), t_hint)
        scale = torch.full((count,), self.config.video.scale, device=z_lq.device)
        return hint, t_hint, scale, z_lq.new_zeros(count, frames)


def latent_weight(batch: dict[str, Any], latents: Tensor) -> Tensor | None:
    """Return the weight of each latent position, (B, 1, 1, h, w), or None if the batch has no weights."""
    if "weight" not in batch:
        return None
    return functional.adaptive_avg_pool2d(batch["weight"], latents.shape[-2:])[:, :, None]


def correlated_noise(like: Tensor, correlation: float) -> Tensor:
    """Draw Gaussian noise (B, C, F, h, w) of unit variance, of which the frames of a clip share a part.

    It has the distribution of :func:`ipfvr.diffusion.noise.frame_noise`.
    """
    own, common = torch.randn_like(like), torch.randn_like(like[:, :, :1])
    return (1 - correlation) ** 0.5 * own + correlation**0.5 * common


def make_base_training(config: Config) -> tuple[BaseTraining, FaceData]:
    """Make the training, and its data: pictures and clips of many people."""
    return BaseTraining(config), FaceData(config)
