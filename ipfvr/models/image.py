"""CLIP's vision model, the visual encoder of Section 3.2."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ipfvr.core.options import ImageConfig

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder(nn.Module):
    """A CLIP vision model with its projection."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=config.width,
                intermediate_size=config.intermediate,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                image_size=config.size,
                patch_size=config.patch_size,
                projection_dim=config.projection,
                hidden_act=config.activation,
            )
        )
        self.register_buffer("mean", torch.tensor(CLIP_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD)[:, None, None], persistent=False)

    @property
    def width(self) -> int:
        """The number of channels of a hidden state."""
        return self.config.width

    @property
    def states(self) -> int:
        """The number of hidden states of a picture: one for each patch and one for the whole."""
        return 1 + (self.config.size // self.config.patch_size) ** 2

    def prepare(self, pixels: Tensor) -> Tensor:
        """Resize (bicubic, antialiased) and normalise frames (N, 3, H, W) in [-1, 1] for CLIP."""
        size = (self.config.size, self.config.size)
        if pixels.shape[-2:] != size:
            pixels = functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
        return (pixels.clamp(-1, 1) / 2 + 0.5 - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the penultimate hidden states (N, 1 + patches, width), which a resampler of image tokens reads."""
        return self.clip(self.prepare(pixels), output_hidden_states=True).hidden_states[-2]

    def project(self, pixels: Tensor) -> Tensor:
        """Return one vector for each picture, (N, projection), in the space that the text encoder shares."""
        return self.clip(self.prepare(pixels)).image_embeds
