"""The denoiser's attention layers, with the image prompt's second term (Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Compute multi-head attention, softmax(Q K^T / sqrt(d)) V.

    Args:
        query: (B, L, heads * d).
        key: (B, N, heads * d).
        value: (B, N, heads * d).
        heads: number of heads.

    Returns:
        (B, L, heads * d).
    """
    query, key, value = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    if query.device.type == "cpu" and torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        # PyTorch's fused kernel for processors takes two to six times as long on the way back as three plain products.
        mixed = ((query * query.shape[-1] ** -0.5) @ key.mT).softmax(-1) @ value
    else:
        mixed = F.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).flatten(2)


def decoupled_cross_attention(
    query: Tensor,
    text: tuple[Tensor, Tensor],
    image: tuple[Tensor, Tensor],
    scale: float | Tensor,
    heads: int,
) -> Tensor:
    """Compute Eq. 4, Z' = Attention(Q, K_t, V_t) + lambda * Attention(Q, K_i, V_i).

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
    """The context that the frames of a clip cross-attend to.

    Attributes:
        text: (B, N_t, D).
        image: image tokens (B, N_i, D'), or None.
        share: factor of lambda at this step, (B, 1, 1); None means 1.
    """

    text: Tensor
    image: Tensor | None = None
    share: Tensor | None = None


class AttentionProcessor:
    """Self-attention, or cross-attention to one context for all frames of a clip.

    The queries of all frames of a clip are concatenated, so the keys and values of a context are computed once a clip
    and not once a frame. This processor reads the text of a :class:`TextAndImage` and ignores its image tokens;
    :class:`ImagePromptProcessor`, which :meth:`ipfvr.models.unet.VideoUNet.add_image_prompt` installs, reads both.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | TextAndImage | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Compute the attention.

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
        """Attend from ``query`` (B, L, C) to the text, and ignore the image tokens."""
        return attend(query, attn.to_k(context.text), attn.to_v(context.text), attn.heads)


class ImagePromptProcessor(AttentionProcessor, nn.Module):
    """Cross-attention with Eq. 4's second term.

    V_i starts at zero, so an untrained image prompt changes nothing.

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
        """Compute Eq. 4, or its first term alone if there is no image prompt or lambda is 0."""
        text, image, share = context
        if image is None or self.scale == 0:
            return super().cross(attn, query, context)
        text_pair = (attn.to_k(text), attn.to_v(text))
        image_pair = (self.to_k_ip(image), self.to_v_ip(image))
        scale = self.scale if share is None else self.scale * share
        return decoupled_cross_attention(query, text_pair, image_pair, scale, attn.heads)


def scale_schedule(shares: Sequence[float], first: int, last: int, timesteps: int) -> Tensor:
    """Tabulate how lambda changes over the diffusion steps.

    Args:
        shares: factors of lambda at equal distances from the sampler's first step to its last, interpolated linearly.
            A single number holds for all steps.
        first: the diffusion step at which sampling starts, the noisiest.
        last: the diffusion step at which it ends.
        timesteps: length of the table.

    Returns:
        (timesteps,) float32. Steps outside of ``last`` to ``first`` have the share of the nearest end.
    """
    done = (first - np.arange(timesteps)) / max(first - last, 1)
    return torch.from_numpy(np.interp(done, np.linspace(0, 1, len(shares)), shares)).float()
