"""How a reference looks, place by place: its own latents as a sequence that image tokens are made of (Section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.core.pixels import resize
from ipfvr.models.vae import LatentCodec

_STRIDE = 2  # latent positions of a state on each side


class AppearanceEncoder(nn.Module):
    """The codec's latents of an aligned face, 2 x 2 positions a state, in order of rows.

    A recogniser's vector says who somebody is; these states say how the eye is drawn that lies there. As references are
    aligned to the template of the frames, state i of a reference lies where the frame has the same part of the face.

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
        """Faces (N, 3, S, S) in [-1, 1] to states (N, states, width)."""
        latents = self.codec.encode(resize(pixels, self.size))
        return functional.pixel_unshuffle(latents, _STRIDE).flatten(2).transpose(1, 2)
