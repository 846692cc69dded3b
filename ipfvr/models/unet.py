"""The denoiser: VEnhancer's video U-Net with its ControlNet, sized by :class:`DenoiserConfig`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from ipfvr.core.errors import UserError
from ipfvr.core.options import DenoiserConfig
from ipfvr.models.attention import ImagePromptProcessor, TextAndImage
from ipfvr.models.blocks import Context, Stem, Trunk, VideoBlock, zero_module
from ipfvr.models.controlnet import VideoControlNet
from ipfvr.models.pretrained import PretrainedNetwork


class VideoUNet(Trunk):
    """The U-Net: the trunk and the expanding half.

    Args:
        config: sizes.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        self.register_buffer("image_shares", None, persistent=False)
        skips = list(self.skip_channels)
        channels = skips[-1]
        self.up = nn.ModuleList()
        for level in reversed(range(len(config.multipliers))):
            for index in range(config.res_blocks + 1):
                upsample = level > 0 and index == config.res_blocks
                out = config.width * config.multipliers[level]
                attention = level in config.attention_levels
                self.up.append(VideoBlock(config, channels + skips.pop(), out, attention, upsample))
                channels = out
        self.norm_out = nn.GroupNorm(config.norm_groups, channels)
        self.conv_out = zero_module(nn.Conv2d(channels, config.in_channels, 3, padding=1))

    def cross_attentions(self) -> list[Attention]:
        """Return the spatial cross-attentions of the contracting half, of the expanding half, and of the middle.

        IP-Adapter files number them in this order.
        """
        blocks = [*self.down, *self.up, *self.middle]
        return [b.spatial.block.attn2 for b in blocks if isinstance(b, VideoBlock) and b.spatial is not None]

    def add_image_prompt(self, width: int) -> None:
        """Add Eq. 4's second term to every cross-attention, with V_i zero.

        Args:
            width: channels of an image token.
        """
        for attention in self.cross_attentions():
            attention.set_processor(ImagePromptProcessor(attention, width))

    def set_image_scale(self, scale: float | Sequence[float], shares: Tensor | None = None) -> None:
        """Set lambda of Eq. 4. Without :meth:`add_image_prompt` this changes nothing.

        Args:
            scale: one lambda for all, or one for each of :meth:`cross_attentions`.
            shares: factor of lambda at each diffusion step, (timesteps,), see
                :func:`ipfvr.models.attention.scale_schedule`; None means 1.

        Raises:
            UserError: the numbers of lambdas and of cross-attentions differ.
        """
        attentions = self.cross_attentions()
        scales = [*scale] if isinstance(scale, Sequence) else [scale] * len(attentions)
        if len(scales) != len(attentions):
            raise UserError(
                f"{len(scales)} scales of the image prompt for {len(attentions)} cross-attentions: give one number, or "
                "one for each"
            )
        for attention, value in zip(attentions, scales, strict=True):
            if isinstance(attention.processor, ImagePromptProcessor):
                attention.processor.scale = value
        self.image_shares = shares if shares is None else shares.to(self.conv_in.weight.device)

    def begin(self, x: Tensor, t: Tensor) -> Stem:
        """Compute what depends on no text or image prompt, for noisy latents x (B, C, F, h, w) at steps t (B,)."""
        frames = x.shape[2]
        return self.stem(self.conv_in(self.pictures(x)), self.step_embedding(t).repeat_interleave(frames, 0), frames)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        control: list[Tensor],
        image_tokens: Tensor | None = None,
        stem: Stem | None = None,
    ) -> Tensor:
        """Predict v.

        Args:
            x: noisy latent (B, C, F, h, w).
            t: step (B,).
            text: text embedding (B, L, D).
            control: the ControlNet's features, see :meth:`VideoControlNet.forward`; they are not changed.
            image_tokens: image prompt (B, N, D'), or None.
            stem: result of :meth:`begin` for the same x and t; None computes it here.

        Returns:
            v (B, C, F, h, w), of the type of ``x``.
        """
        frames = x.shape[2]
        stem = self.begin(x, t) if stem is None else stem
        context: Context = text
        if image_tokens is not None:
            share = None if self.image_shares is None else self.image_shares[t].to(text.dtype)[:, None, None]
            context = TextAndImage(text, image_tokens, share)
        skips, h = self.contract(stem, context, frames)
        h = h + control[-1]
        temporal = self.runs_temporal(frames)
        for block, skip, added in zip(self.up, reversed(skips), reversed(control[:-1]), strict=True):
            h = self.run(block, torch.cat([h, skip + added], 1), stem.embedding, context, frames, temporal)
        out = self.conv_out(F.silu(self.norm_out(h)))
        return out.unflatten(0, (-1, frames)).transpose(1, 2).to(x.dtype)


class Stems(NamedTuple):
    """The parts of U-Net and ControlNet that all branches of a step share."""

    unet: Stem
    controlnet: Stem


class VideoDenoiser(PretrainedNetwork):
    """U-Net and ControlNet together; they predict v of a noisy latent, given its low-quality key frames.

    Args:
        config: sizes.
    """

    section = DenoiserConfig
    _supports_gradient_checkpointing = True
    # Modules that are always called as a whole, so that weights which wait elsewhere can be fetched for the call.
    _no_split_modules = ("ResnetBlock2D", "TemporalConvolution", "SpatialTransformer", "TemporalTransformer")

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        self.gradient_checkpointing = config.gradient_checkpointing  # diffusers looks for a switch of this name
        self.unet = VideoUNet(config)
        self.controlnet = VideoControlNet(config)

    @classmethod
    def of_config(cls, sizes: DenoiserConfig, values: dict[str, Any]) -> Self:
        """Build the denoiser, with the image prompt's layers if it was saved with them."""
        denoiser = cls(sizes)
        if values.get("image_prompt_width"):
            denoiser.add_image_prompt(values["image_prompt_width"])
        return denoiser

    def add_image_prompt(self, width: int) -> None:
        """Add Eq. 4's second term to the U-Net, see :meth:`VideoUNet.add_image_prompt`."""
        self.unet.add_image_prompt(width)
        self.register_to_config(image_prompt_width=width)

    def set_image_scale(self, scale: float | Sequence[float], shares: Tensor | None = None) -> None:
        """Set lambda of Eq. 4, see :meth:`VideoUNet.set_image_scale`."""
        self.unet.set_image_scale(scale, shares)

    def begin(self, x: Tensor, t: Tensor, hint: Tensor, t_hint: Tensor, up_scale: Tensor, mask_cond: Tensor) -> Stems:
        """Compute the parts that depend on no text or image prompt; for the arguments see :meth:`forward`.

        Raises:
            UserError: a size of latents that cannot be halved and doubled as often as the network does it.
        """
        check_latent_size(self.config, *x.shape[-2:])
        return Stems(self.unet.begin(x, t), self.controlnet.begin(x, t, hint, t_hint, up_scale, mask_cond))

    def control(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        hint: Tensor,
        t_hint: Tensor,
        up_scale: Tensor,
        mask_cond: Tensor,
        stem: Stem | None = None,
    ) -> list[Tensor]:
        """Compute the ControlNet's features, which branches with the same text can share.

        Args:
            x, t, text, hint, t_hint, up_scale, mask_cond: see :meth:`forward`.
            stem: the ControlNet's part of :meth:`begin`; None computes it here.

        Returns:
            See :meth:`VideoControlNet.forward`.

        Raises:
            UserError: as :meth:`begin`.
        """
        check_latent_size(self.config, *x.shape[-2:])
        if stem is None:
            stem = self.controlnet.begin(x, t, hint, t_hint, up_scale, mask_cond)
        return self.controlnet(stem, text)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        hint: Tensor,
        t_hint: Tensor,
        up_scale: Tensor,
        mask_cond: Tensor,
        image_tokens: Tensor | None = None,
        control: list[Tensor] | None = None,
        stem: Stem | None = None,
    ) -> Tensor:
        """Predict v = alpha * noise - sigma * z.

        Args:
            x: noisy latent (B, C, F, h, w).
            t: its step, 0..999, (B,).
            text: text embedding (B, L, D).
            hint: latent of the low-quality key frames at step ``t_hint``, (B, C, K, h, w).
            t_hint: step of the hint (B,).
            up_scale: upscaling factor (B,).
            mask_cond: (B, F), 0 at a key frame (it has a hint), 1 where a frame is to be interpolated.
            image_tokens: image prompt (B, N, D'), or None.
            control: result of :meth:`control` for the same inputs; None computes it here.
            stem: the U-Net's part of :meth:`begin` for the same inputs; None computes it here.

        Returns:
            v (B, C, F, h, w), of the type of ``x``.
        """
        if control is None:
            control = self.control(x, t, text, hint, t_hint, up_scale, mask_cond)
        return self.unet(x, t, text, control, image_tokens, stem)


def fitting_latent_size(config: DenoiserConfig, height: int, width: int) -> tuple[int, int]:
    """Return the next larger size that halving and doubling reproduce: 8k-6 rows and 8k columns for VEnhancer."""
    unit = 2 ** (len(config.multipliers) - 1)
    less = unit - 2 if config.odd_sizes else 0
    return max(unit, unit * -(-(height + less) // unit)) - less, max(unit, unit * -(-width // unit))


def check_latent_size(config: DenoiserConfig, height: int, width: int) -> None:
    """Check that halving and doubling reproduce a latent's rows and columns.

    Raises:
        UserError: they do not; the message names the next larger size that fits.
    """
    rows, columns = fitting_latent_size(config, height, width)
    if (rows, columns) != (height, width):
        raise UserError(f"latents of {height} x {width} do not fit the denoiser; {rows} x {columns} would")


def build_denoiser(config: DenoiserConfig) -> VideoDenoiser:
    """Build the denoiser with random weights; under ``torch.device("meta")`` they take no memory."""
    return VideoDenoiser(config)
