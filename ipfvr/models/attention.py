"""Attention of the denoiser, and the place of the image prompt in it (Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head softmax(Q K^T / sqrt(d)) V.

    Args:
        query: (B, L, heads * d).
        key: (B, N, heads * d).
        value: (B, N, heads * d).
        heads: number of heads.

    Returns:
        (B, L, heads * d).
    """
    query, key, value = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def decoupled_cross_attention(
    query: Tensor,
    text: tuple[Tensor, Tensor],
    image: tuple[Tensor, Tensor],
    scale: float | Tensor,
    heads: int,
) -> Tensor:
    """Eq. 4: Z' = Attention(Q, K_t, V_t) + lambda * Attention(Q, K_i, V_i).

    Args:
        query: Q, (B, L, heads * d), shared by both attentions.
        text: K_t and V_t, each (B, N_t, heads * d).
        image: K_i and V_i, each (B, N_i, heads * d).
        scale: lambda, a number or (B, 1, 1).
        heads: number of heads.

    Returns:
        Z', (B, L, heads * d).
    """
    return attend(query, *text, heads) + scale * attend(query, *image, heads)


class TextAndImage(NamedTuple):
    """What the frames of a clip cross-attend to.

    Attributes:
        text: (B, N_t, D).
        image: image tokens (B, N_i, D'), or None.
        share: what lambda is multiplied by at this step, (B, 1, 1); None: 1.
    """

    text: Tensor
    image: Tensor | None = None
    share: Tensor | None = None


class AttentionProcessor:
    """Self-attention, or cross-attention to one context for all frames of a clip.

    Keys and values of a context are computed once a clip, not once a frame: the frames of a clip are
    laid end to end as queries. A context may be :class:`TextAndImage`, which is taken by
    :class:`ImagePromptProcessor`; this one reads the text alone, so an image prompt changes nothing
    until :meth:`ipfvr.models.unet.VideoUNet.add_image_prompt` has made a place for it.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | TextAndImage | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            attn: the projections.
            hidden_states: (B * F, L, C).
            encoder_hidden_states: text (B, N, D), or text and image, or None for self-attention.
            attention_mask: must be None.

        Returns:
            (B * F, L, C).
        """
        if attention_mask is not None:
            raise ValueError("attention masks are not used by this network")
        query = attn.to_q(hidden_states)
        if encoder_hidden_states is None:
            mixed = attend(query, attn.to_k(hidden_states), attn.to_v(hidden_states), attn.heads)
        else:
            both = isinstance(encoder_hidden_states, TextAndImage)
            context = encoder_hidden_states if both else TextAndImage(encoder_hidden_states)
            clips = query.reshape(context.text.shape[0], -1, query.shape[-1])
            mixed = self.cross(attn, clips, context).reshape(query.shape)
        return attn.to_out[0](mixed)

    def cross(self, attn: Attention, query: Tensor, context: TextAndImage) -> Tensor:
        """Attention of ``query`` (B, L, C) to the text; the image tokens are not read."""
        return attend(query, attn.to_k(context.text), attn.to_v(context.text), attn.heads)


class ImagePromptProcessor(AttentionProcessor, nn.Module):
    """Cross-attention with Eq. 4's second term.

    V_i starts at zero, so that adding it changes nothing before it is trained.

    Args:
        attn: the cross-attention whose processor this becomes.
        width: channels of an image token.
    """

    def __init__(self, attn: Attention, width: int) -> None:
        nn.Module.__init__(self)
        like = {"device": attn.to_k.weight.device, "dtype": attn.to_k.weight.dtype}
        self.to_k_ip = nn.Linear(width, attn.inner_dim, bias=False, **like)
        self.to_v_ip = nn.Linear(width, attn.inner_dim, bias=False, **like)
        nn.init.zeros_(self.to_v_ip.weight)
        self.scale = 1.0

    def cross(self, attn: Attention, query: Tensor, context: TextAndImage) -> Tensor:
        """Eq. 4, or its first term alone where there is no image prompt or lambda is 0."""
        text, image, share = context
        if image is None or self.scale == 0:
            return super().cross(attn, query, context)
        text_pair = (attn.to_k(text), attn.to_v(text))
        image_pair = (self.to_k_ip(image), self.to_v_ip(image))
        scale = self.scale if share is None else self.scale * share
        return decoupled_cross_attention(query, text_pair, image_pair, scale, attn.heads)


def scale_schedule(shares: Sequence[float], first: int, last: int, timesteps: int) -> Tensor:
    """lambda's course over the sampler's steps, as a table over the diffusion steps.

    Args:
        shares: what lambda is multiplied by, at equal distances from the sampler's first step to its last; linear in
            between. One number holds throughout.
        first: the diffusion step that sampling starts at, the noisiest.
        last: the one it ends at.
        timesteps: length of the table.

    Returns:
        (timesteps,) float32; outside of ``last`` to ``first`` the nearest end's share.
    """
    done = (first - np.arange(timesteps)) / max(first - last, 1)
    return torch.from_numpy(np.interp(done, np.linspace(0, 1, len(shares)), shares)).float()
