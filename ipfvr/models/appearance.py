"""The reference's own latents as a sequence from which image tokens are made (Section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.core.pixels import resize
from ipfvr.models.vae import LatentCodec

_STRIDE = 2  # latent positions of a state on each side


class AppearanceEncoder(nn.Module):
    """Encodes an aligned face with the codec and groups 2 x 2 latent positions into one state, row by row.

    A recogniser's vector says who somebody is. These states say what each part of the face looks like. References are
    aligned to the same template as the frames, so state i of a reference shows the part of the face that the frame has
    at the same place.

    Args:
        codec: of the denoiser that reads the tokens; frozen.
        size: side of the frames, pixels.

    Attributes:
        width: channels of a state.
        states: of a picture.
    """

    def __init__(self, codec: LatentCodec, size: int) -> None:
        super().__init__()
        self.codec, self.size = codec, size
        self.width = codec.config.latent_channels * _STRIDE**2
        self.states = (size // codec.factor // _STRIDE) ** 2

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Encode faces (N, 3, S, S) in [-1, 1] as states (N, states, width)."""
        latents = self.codec.encode(resize(pixels, self.size))
        return functional.pixel_unshuffle(latents, _STRIDE).flatten(2).transpose(1, 2)
