"""The autoencoder between pixels and latents: diffusers' AutoencoderKL, sized by configuration."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.core.choices import Autoencoders
from ipfvr.core.errors import UserError
from ipfvr.core.options import VAEConfig
from ipfvr.models.pretrained import PretrainedNetwork


class LatentCodec(PretrainedNetwork):
    """Pixels (F, 3, H, W) in [-1, 1] to scaled latents (F, C, h, w) and back.

    A ``patch_size`` p > 1 rearranges p x p pixels into channels before the network and back after it (space to depth),
    so that a small network does not work at full resolution. The codec processes ``frames_per_chunk`` frames at a time,
    which bounds the memory.

    Args:
        config: sizes.
        padding: rows and columns of pixels that the codec adds at the bottom and at the right before it encodes, by
            repeating the edge, and removes after it decodes. They make a size that the denoiser accepts.
    """

    section = VAEConfig

    def __init__(self, config: VAEConfig, padding: tuple[int, int] = (0, 0)) -> None:
        super().__init__(config, padding=list(padding))
        depth = 3 * config.patch_size**2
        sizes = {
            "in_channels": depth,
            "out_channels": depth,
            "latent_channels": config.latent_channels,
            "block_out_channels": tuple(config.block_out_channels),
            "layers_per_block": config.layers_per_block,
            "scaling_factor": config.scaling_factor,
            "down_block_types": ("DownEncoderBlock2D",) * len(config.block_out_channels),
        }
        if config.kind == Autoencoders.kl:
            self.vae = AutoencoderKL(
                **sizes,
                up_block_types=("UpDecoderBlock2D",) * len(config.block_out_channels),
                norm_num_groups=config.norm_groups,
                mid_block_add_attention=config.mid_attention,
            )
        else:
            self.vae = AutoencoderKLTemporalDecoder(**sizes)
        if not config.output_norm:
            for half in (self.vae.encoder, self.vae.decoder):
                half.conv_norm_out, half.conv_act = nn.Identity(), nn.Identity()

    @classmethod
    def of_config(cls, sizes: VAEConfig, values: dict[str, Any]) -> Self:
        """Build the codec with the padding that it was saved with."""
        return cls(sizes, tuple(values["padding"]))

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns of the padding, see the class."""
        return tuple(self.config.padding)

    @property
    def factor(self) -> int:
        """Pixels that one latent position covers on a side."""
        return pixels_per_latent(self.config)

    def encode(self, pixels: Tensor, noise: float = 0.0) -> Tensor:
        """Encode frames: the scaled mean of the posterior.

        Args:
            pixels: (F, 3, H, W) in [-1, 1], H and W with the padding multiples of :attr:`factor`.
            noise: standard deviation of Gaussian noise added to the scaled latents (training only).

        Returns:
            Latents (F, C, h, w), where h and w are H and W with the padding, divided by :attr:`factor`.
        """
        if any(self.padding):
            pixels = functional.pad(pixels, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
        if self.config.patch_size > 1:
            pixels = functional.pixel_unshuffle(pixels, self.config.patch_size)
        parts = [self.vae.encode(part).latent_dist.mean for part in pixels.split(self.config.frames_per_chunk)]
        latents = torch.cat(parts) * self.config.scaling_factor
        if noise > 0:
            latents = latents + noise * torch.randn_like(latents)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents (F, C, h, w) to frames (F, 3, H, W) of about [-1, 1], which are not clipped."""
        latents = latents / self.config.scaling_factor
        if self.config.kind == Autoencoders.temporal:
            parts = [self.vae.decode(p, num_frames=len(p)).sample for p in latents.split(self.config.frames_per_chunk)]
        else:
            parts = [self.vae.decode(p).sample for p in latents.split(self.config.frames_per_chunk)]
        pixels = torch.cat(parts)
        if self.config.patch_size > 1:
            pixels = functional.pixel_shuffle(pixels, self.config.patch_size)
        rows, columns = self.padding
        return pixels[..., : pixels.shape[-2] - rows, : pixels.shape[-1] - columns]


def skip_idle_parts(codec: LatentCodec) -> None:
    """Leave out what adds nothing: residual blocks whose last convolution is zero, and taps that are zero.

    A linear codec (:func:`start_from_principal_components`) consists of such blocks almost alone, and its convolutions
    look at one position. The state stays the same; only what is computed changes. Not for a codec that is trained: what
    is left out would never learn.
    """
    for part in codec.modules():
        if isinstance(part, ResnetBlock2D) and part.conv_shortcut is None:
            if not any(parameter.any() for parameter in part.conv2.parameters()):
                part.forward = _unchanged
        elif isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3) and part.stride == (1, 1):
            beside = part.weight.detach().clone()
            beside[..., 1, 1] = 0
            if not beside.any():
                part.forward = partial(_pointwise, part)


def _unchanged(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.conv2d(x, conv.weight[..., 1:2, 1:2], conv.bias)


def pixels_per_latent(config: VAEConfig) -> int:
    """Return how many pixels one latent position covers on a side."""
    return config.patch_size * 2 ** (len(config.block_out_channels) - 1)


def start_from_principal_components(codec: LatentCodec, pictures: Tensor) -> None:
    """Initialise a patch autoencoder as the projection of each patch on its principal components.

    This sets the last convolutions of the residual blocks to zero, so that the network is exactly the best linear map
    of patches. Training starts from there.

    Args:
        codec: has one block, no ``output_norm``, and a block at least as wide as the latent.
        pictures: (N, 3, H, W) in [-1, 1].

    Raises:
        UserError: the codec's shape cannot hold the linear map.
    """
    config = codec.config
    if config.output_norm or len(config.block_out_channels) != 1 or config.mid_attention:
        raise UserError("the linear start needs vae.output_norm=false, vae.mid_attention=false and one block")
    latent, width = config.latent_channels, config.block_out_channels[0]
    patches = functional.pixel_unshuffle(pictures, config.patch_size).permute(0, 2, 3, 1).flatten(0, 2)
    mean = patches.mean(0)
    _, basis = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    basis = basis.flip(1)  # strongest first
    kept = min(width, basis.shape[1])
    encoder, decoder = codec.vae.encoder, codec.vae.decoder
    with torch.no_grad():
        for name, parameter in codec.vae.named_parameters():
            if name.endswith(("conv2.weight", "conv2.bias")):
                parameter.zero_()
        _set_pointwise(encoder.conv_in, basis[:, :kept].T, -basis[:, :kept].T @ mean)
        _set_pointwise(encoder.conv_out, torch.eye(latent, kept))
        # Moments are (mean, log variance): the variance is not used, see LatentCodec.encode.
        _set_pointwise(codec.vae.quant_conv, torch.eye(latent, 2 * latent))
        _set_pointwise(codec.vae.post_quant_conv, torch.eye(latent))
        _set_pointwise(decoder.conv_in, torch.eye(kept, latent))
        _set_pointwise(decoder.conv_out, basis[:, :kept], mean)


def _set_pointwise(conv: nn.Conv2d, matrix: Tensor, bias: Tensor | None = None) -> None:
    """Set ``conv`` to the linear map ``matrix`` at every position; further inputs and outputs become zero."""
    conv.weight.zero_()
    conv.bias.zero_()
    centre = conv.kernel_size[0] // 2
    conv.weight[: matrix.shape[0], : matrix.shape[1], centre, centre] = matrix
    if bias is not None:
        conv.bias[: len(bias)] = bias
