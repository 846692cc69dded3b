"""Building blocks that the video U-Net and its ControlNet share.

Activations are pictures (B * F, C, h, w). Every block keeps the channels-last layout of its input, in which a view as
pictures, tokens or clips costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ipfvr.core.options import DenoiserConfig
from ipfvr.models.attention import AttentionProcessor, TextAndImage

Context = Tensor | TextAndImage


def zero_module(module: nn.Module) -> nn.Module:
    """Set all parameters to zero, so that a residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class FrameConvolution(nn.Conv3d):
    """A (3, 1, 1) convolution over frames, computed as a 2-D convolution over (frames, places).

    On a CPU PyTorch runs the 3-D convolution in single precision with ``slow_conv3d``. The 2-D one gives the same
    numbers up to rounding, and its weights have the same names and shapes.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C_in, F, h, w) to (B, C_out, F, h, w)."""
        places = F.conv2d(x.flatten(3), self.weight.squeeze(-1), self.bias, padding=(self.padding[0], 0))
        return places.unflatten(3, x.shape[3:])


class TemporalConvolution(TemporalConvLayer):
    """diffusers' temporal convolutions of a clip, computed by :class:`FrameConvolution`."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, norm_num_groups=groups)
        for layers in (self.conv1, self.conv2, self.conv3, self.conv4):
            layers[-1] = FrameConvolution(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        zero_module(self.conv4[-1])


class NumberEmbedding(nn.Module):
    """Embeds a number (a diffusion step, an upscaling factor) as a vector.

    Args:
        width: length of its cosine and sine code.
        embedding: length of the vector.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.code = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.mlp = TimestepEmbedding(width, embedding)

    def forward(self, number: Tensor) -> Tensor:
        """Embed numbers (B,) as vectors (B, embedding)."""
        return self.mlp(self.code(number).to(self.mlp.linear_1.weight.dtype))


class Transformer(nn.Module):
    """A residual transformer block between two projections; subclasses choose the axis it attends over.

    Args:
        channels: of the activations.
        heads: of the attentions.
        head_dim: channels of a head; the inner width is ``heads * head_dim``.
        groups: of the group normalisation.
        text_width: channels of the text that the second attention reads. None makes it a self-attention.
    """

    def __init__(self, channels: int, heads: int, head_dim: int, groups: int, text_width: int | None) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.block = BasicTransformerBlock(
            inner, heads, head_dim, cross_attention_dim=text_width, double_self_attention=text_width is None
        )
        self.proj_out = zero_module(nn.Linear(inner, channels))
        for attention in (self.block.attn1, self.block.attn2):
            attention.set_processor(AttentionProcessor())


class SpatialTransformer(Transformer):
    """Self-attention over the positions of a frame, then cross-attention to the text."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Transform activations (B * F, C, h, w), given text (B, N, D) or text and image tokens."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        tokens = self.proj_out(self.block(self.proj_in(tokens), encoder_hidden_states=context))
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[-2:])


class TemporalTransformer(Transformer):
    """Two self-attentions over the frames, at every position."""

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Transform activations (B * F, C, h, w), which are normalised over the whole clip."""
        height, width = x.shape[-2:]
        clips = x.unflatten(0, (-1, frames)).transpose(1, 2)  # (B, C, F, h, w)
        tokens = self.norm(clips).permute(0, 3, 4, 2, 1).flatten(0, 2)  # (B * h * w, F, C)
        tokens = self.proj_out(self.block(self.proj_in(tokens)))
        return x + tokens.unflatten(0, (-1, height, width)).permute(0, 3, 4, 1, 2).flatten(0, 1)


class Downsample(nn.Module):
    """Halves rows and columns.

    Args:
        channels: of the activations.
        odd_sizes: pad rows by 2 instead of 1, as VEnhancer does: 90 -> 46 -> 24 -> 13 rows.
    """

    def __init__(self, channels: int, odd_sizes: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=(2 if odd_sizes else 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Shrink (N, C, h, w) to (N, C, h / 2, w / 2), with ``odd_sizes`` to (N, C, h / 2 + 1, w / 2)."""
        return self.conv(x)


class Upsample(nn.Module):
    """Doubles rows and columns; in shape it inverts :class:`Downsample`."""

    def __init__(self, channels: int, odd_sizes: bool) -> None:
        super().__init__()
        self.odd_sizes = odd_sizes
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, C, h, w) to (N, C, 2h, 2w), with ``odd_sizes`` to (N, C, 2h - 2, 2w)."""
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(x[..., 1:-1, :] if self.odd_sizes else x)


class VideoBlock(nn.Module):
    """Residual block, temporal convolutions, spatial and temporal transformer, upsampling.

    Args:
        config: sizes.
        channels_in: channels of the input.
        channels_out: channels of the output.
        attention: whether the block has transformers.
        upsample: whether the block ends with an upsampling.
    """

    def __init__(
        self, config: DenoiserConfig, channels_in: int, channels_out: int, attention: bool, upsample: bool = False
    ) -> None:
        super().__init__()
        groups = config.norm_groups
        self.residual = ResnetBlock2D(
            in_channels=channels_in, out_channels=channels_out, temb_channels=4 * config.width, groups=groups, eps=1e-5
        )
        zero_module(self.residual.conv2)
        self.temporal_conv = TemporalConvolution(channels_out, groups)
        self.spatial = self.temporal = self.upsample = None
        if attention:
            heads = channels_out // config.head_dim
            self.spatial = SpatialTransformer(channels_out, heads, config.head_dim, groups, config.text_width)
            self.temporal = TemporalTransformer(channels_out, heads, config.head_dim, groups, None)
        if upsample:
            self.upsample = Upsample(channels_out, config.odd_sizes)

    def forward(self, x: Tensor, embedding: Tensor, context: Context, frames: int, temporal: bool) -> Tensor:
        """Run the block.

        Args:
            x: (B * F, C_in, h, w).
            embedding: (B * F, 4 * width), of the diffusion step and, in the ControlNet, of hint and scale.
            context: text (B, N, D), or text and image tokens.
            frames: F.
            temporal: whether the temporal layers run.

        Returns:
            (B * F, C_out, h', w').
        """
        return self.attend(self.convolve(x, embedding, frames, temporal), context, frames, temporal)

    def convolve(self, x: Tensor, embedding: Tensor, frames: int, temporal: bool) -> Tensor:
        """Run the part that does not read the context: (B * F, C_in, h, w) to (B * F, C_out, h, w)."""
        x = self.residual(x, embedding)
        return self.temporal_conv(x, frames) if temporal else x

    def attend(self, x: Tensor, context: Context, frames: int, temporal: bool) -> Tensor:
        """Run the rest of the block: (B * F, C_out, h, w) to (B * F, C_out, h', w')."""
        if self.spatial is not None:
            x = self.spatial(x, context)
        if self.temporal is not None and temporal:
            x = self.temporal(x, frames)
        return x if self.upsample is None else self.upsample(x)


@dataclass(frozen=True)
class Stem:
    """Activations of a trunk before it first reads a context; they are the same for every text and image prompt.

    Attributes:
        features: the skip connections computed so far, finest first.
        x: output of the convolutions of the first block with attention, (B * F, C, h, w).
        embedding: (B * F, 4 * width).
    """

    features: list[Tensor]
    x: Tensor
    embedding: Tensor

    def repeat(self, times: int) -> Stem:
        """Repeat the clips ``times`` times, for as many contexts."""
        features, x, embedding = (
            [torch.cat([t] * times) for t in tensors] for tensors in (self.features, [self.x], [self.embedding])
        )
        return Stem(features, x[0], embedding[0])


class Trunk(nn.Module):
    """The contracting half and the middle, which the U-Net and the ControlNet share.

    Args:
        config: sizes.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = config.gradient_checkpointing
        width = config.width
        self.step_embedding = NumberEmbedding(width, 4 * width)
        self.conv_in = nn.Conv2d(config.in_channels, width, 3, padding=1)
        self.temporal_in = TemporalTransformer(width, config.input_heads, config.head_dim, config.norm_groups, None)
        self.down = nn.ModuleList()
        self.skip_channels = [width]  # channels of every skip connection
        for level, multiplier in enumerate(config.multipliers):
            channels = width * multiplier
            for _ in range(config.res_blocks):
                attention = level in config.attention_levels
                self.down.append(VideoBlock(config, self.skip_channels[-1], channels, attention))
                self.skip_channels.append(channels)
            if level + 1 < len(config.multipliers):
                self.down.append(Downsample(channels, config.odd_sizes))
                self.skip_channels.append(channels)
        self.middle = nn.ModuleList(
            [VideoBlock(config, channels, channels, True), VideoBlock(config, channels, channels, False)]
        )

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.conv_in.weight.dtype

    def pictures(self, clip: Tensor) -> Tensor:
        """Reshape latents (B, C, F, h, w) to pictures (B * F, C, h, w), in channels-last layout on a CPU."""
        pictures = clip.to(self.dtype).transpose(1, 2).flatten(0, 1)
        return pictures.contiguous(memory_format=torch.channels_last) if pictures.device.type == "cpu" else pictures

    def run(self, block: Callable[..., Tensor], *args: object) -> Tensor:
        """Run a block or a part of one. With gradient checkpointing its activations are not kept."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def stem(self, x: Tensor, embedding: Tensor, frames: int) -> Stem:
        """Compute from the first convolution's output up to the first attention that reads a context.

        Args:
            x: (B * F, width, h, w).
            embedding: (B * F, 4 * width).
            frames: F.
        """
        temporal = self.runs_temporal(frames)
        x = self.run(self.temporal_in, x, frames) if temporal else x
        features = [x]
        for block in [*self.down, *self.middle]:  # the middle always has attention
            if isinstance(block, Downsample):
                x = block(x)
            else:
                x = self.run(block.convolve, x, embedding, frames, temporal)
                if block.spatial is not None:
                    break
            features.append(x)
        return Stem(features, x, embedding)

    def contract(self, stem: Stem, context: Context, frames: int) -> tuple[list[Tensor], Tensor]:
        """Compute from a stem to the middle block.

        Args:
            stem: of as many clips as the context has.
            context: see :class:`VideoBlock`.
            frames: F.

        Returns:
            The skip connections, finest first, and the output of the middle.
        """
        temporal = self.runs_temporal(frames)
        features, x = [*stem.features], stem.x
        begun = len(features) - 1  # the block whose convolutions are part of the stem
        for number, block in enumerate([*self.down, *self.middle][begun:], begun):
            if number == begun:
                x = self.run(block.attend, x, context, frames, temporal)
            elif isinstance(block, Downsample):
                x = block(x)
            else:
                x = self.run(block, x, stem.embedding, context, frames, temporal)
            if number < len(self.down):
                features.append(x)
        return features, x

    def runs_temporal(self, frames: int) -> bool:
        """Return whether the temporal layers run for this number of frames."""
        return frames > 1 or self.config.temporal_on_pictures
