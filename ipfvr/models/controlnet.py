"""The video ControlNet, which feeds low-quality key frames to the U-Net (VEnhancer)."""

from __future__ import annotations

from torch import Tensor, nn

from ipfvr.core.options import DenoiserConfig
from ipfvr.models.blocks import NumberEmbedding, Stem, Trunk, zero_module


class VideoControlNet(Trunk):
    """A copy of the U-Net's contracting half that also sees the low-quality key frames.

    Args:
        config: sizes.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        embedding = 4 * config.width
        # Zero output convolutions alone silence the untrained branch. VEnhancer, which starts from a trained network,
        # sets the hint's own layers to zero as well; they would then start to learn one step later.
        self.hint_conv = nn.Conv2d(config.in_channels, config.width, 3, padding=1)
        self.hint_step = nn.Linear(embedding, embedding)
        self.scale_embedding = NumberEmbedding(config.width, embedding)
        self.zero_convs = nn.ModuleList(zero_module(nn.Conv2d(c, c, 1)) for c in self.skip_channels)
        self.zero_conv_middle = zero_module(nn.Conv2d(self.skip_channels[-1], self.skip_channels[-1], 1))

    def begin(self, x: Tensor, t: Tensor, hint: Tensor, t_hint: Tensor, up_scale: Tensor, mask_cond: Tensor) -> Stem:
        """Compute the part that does not depend on the text.

        Args:
            x: noisy latent (B, C, F, h, w).
            t: its step (B,).
            hint: latent of the low-quality key frames at step ``t_hint``, (B, C, K, h, w), in order of time.
            t_hint: step of the hint (B,).
            up_scale: upscaling factor (B,).
            mask_cond: (B, F), 0 at a key frame, 1 where a frame is to be interpolated; K zeros a row.

        Raises:
            ValueError: the key frames that ``mask_cond`` marks are not those of ``hint``.
        """
        frames, keys = x.shape[2], hint.shape[2]
        is_key = mask_cond == 0
        if mask_cond.shape != (x.shape[0], frames) or not bool((is_key.sum(1) == keys).all()):
            raise ValueError(f"mask_cond must mark {keys} key frames of {frames} in each of {x.shape[0]} clips")
        of_hint = self.hint_step(self.step_embedding(t_hint)) + self.scale_embedding(up_scale)
        embedding = self.step_embedding(t)[:, None] + is_key[..., None] * of_hint[:, None]
        features = self.conv_in(self.pictures(x))
        hints = self.hint_conv(self.pictures(hint))
        if keys == frames:
            features = features + hints
        elif keys:
            features = features.index_add(0, is_key.flatten().nonzero()[:, 0], hints.to(features.dtype))
        return self.stem(features, embedding.flatten(0, 1), frames)

    def forward(self, stem: Stem, text: Tensor) -> list[Tensor]:
        """Compute the features that are added to the U-Net's skip connections and, last, to the output of its middle.

        Args:
            stem: of :meth:`begin`.
            text: text embedding (B, L, D).

        Returns:
            Features (B * F, C_i, h_i, w_i), finest first.
        """
        skips, middle = self.contract(stem, text, len(stem.x) // len(text))
        return [conv(skip) for conv, skip in zip(self.zero_convs, skips, strict=True)] + [self.zero_conv_middle(middle)]
