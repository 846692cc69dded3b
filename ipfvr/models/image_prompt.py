"""Image tokens of reference pictures: the visual encoder of Section 3.2.

Two projections are those of IP-Adapter (Ye et al. 2023), with the names of its files: ``linear`` makes tokens of one
vector for each picture, ``resampler`` (plus, plus-face) lets learned queries read a sequence of features. ``patches``
makes one token of every patch. Nothing is averaged, so a cross-attention can look up what this person's eye looks like
at the place of the eye. With ``train_encoder`` the encoder itself is trained, for presets that have no pretrained one.

A recogniser's embedding describes the identity and little else. CLIP's hidden states describe what the face looks like,
tattoos included. With ``source: appearance`` the reference's own latents (:mod:`ipfvr.models.appearance`) with learned
positions take the place of CLIP's states, beside a recogniser's vector. With ``source: both`` the linear projection
reads the two vectors as one; the resampler reads CLIP's states alone, and the embedding becomes image tokens of its own
beside the resampler's. The resampler must not read the embedding, since a few tokens are lost among CLIP's many: before
any training, on mini's training people, nearest neighbours by image tokens show the same person in 0.95 of the cases
for the embedding's own tokens, and in 0.06 for those of a resampler that had read both. Training did not change that.
The resampler keeps plus-face's names and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ipfvr.core.choices import Projections, PromptSources, SeveralReferences
from ipfvr.core.errors import UserError
from ipfvr.core.options import ImagePromptConfig
from ipfvr.faces.align import ARCFACE_SIZE, face_template, warp_faces
from ipfvr.faces.recognise import Recogniser
from ipfvr.models.appearance import AppearanceEncoder
from ipfvr.models.attention import attend
from ipfvr.models.image import ImageEncoder

_PLACE_LAYERS = 2  # residual layers of a place projection
# Whether a source has an encoder of appearance (CLIP's model or latents), and whether it has a recogniser.
SOURCES = {
    PromptSources.none: (False, False),
    PromptSources.clip: (True, False),
    PromptSources.recogniser: (False, True),
    PromptSources.both: (True, True),
    PromptSources.appearance: (True, True),
}


class LinearProjection(nn.Module):
    """IP-Adapter's projection of one vector for each picture to tokens.

    Args:
        features: length of the vector.
        tokens: tokens of a picture.
        width: channels of a token.
    """

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Linear(features, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: Tensor) -> Tensor:
        """Project (N, features) to (N, tokens, width)."""
        return self.norm(self.proj(vectors).unflatten(1, (self.tokens, -1)))


class PatchProjection(nn.Module):
    """Makes one token of every hidden state; CLIP's states already encode their position.

    Args:
        features: channels of the sequence.
        width: channels of a token.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(features, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, sequence: Tensor) -> Tensor:
        """Project (N, L, features) to (N, L, width)."""
        return self.norm(self.proj(sequence))


class PlaceProjection(nn.Module):
    """Makes one token of every position of a reference's latents.

    Convolutions over the square of states give a token its surroundings, so that it can tell an eyelid from a fold of a
    shirt. A learned vector is added at each position, since latents do not encode where they lie.

    Args:
        features: channels of the sequence.
        width: channels of a token.
        places: length of the sequence, a square number.
    """

    def __init__(self, features: int, width: int, places: int) -> None:
        super().__init__()
        self.side, groups = math.isqrt(places), math.gcd(8, width)
        self.proj = nn.Conv2d(features, width, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(groups, width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.GroupNorm(groups, width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(_PLACE_LAYERS)
        )
        self.places = nn.Parameter(torch.randn(places, width) / width**0.5)
        self.norm = nn.LayerNorm(width)

    def forward(self, sequence: Tensor) -> Tensor:
        """Project (N, places, features), row by row, to (N, places, width)."""
        x = self.proj(sequence.transpose(1, 2).unflatten(2, (self.side, self.side)))
        for layer in self.layers:
            x = x + layer(x)
        return self.norm(x.flatten(2).transpose(1, 2) + self.places)


class Resampler(nn.Module):
    """IP-Adapter plus's projection: in each layer, learned queries attend to the sequence and to each other.

    Args:
        features: channels of the sequence.
        config: tokens, their width, depth and heads.
    """

    def __init__(self, features: int, config: ImagePromptConfig) -> None:
        super().__init__()
        width = config.width
        self.latents = nn.Parameter(torch.randn(1, config.tokens, width) / width**0.5)
        self.proj_in = nn.Linear(features, width)
        self.proj_out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList([_PerceiverAttention(width, config.heads, config.head_dim), _feed_forward(width)])
            for _ in range(config.depth)
        )

    def forward(self, sequence: Tensor) -> Tensor:
        """Project (N, L, features) to (N, tokens, width)."""
        sequence = self.proj_in(sequence)
        latents = self.latents.expand(len(sequence), -1, -1)
        for attention, feed_forward in self.layers:
            latents = latents + attention(sequence, latents)
            latents = latents + feed_forward(latents)
        return self.norm_out(self.proj_out(latents))


class FaceTokens(nn.Module):
    """Makes tokens of a recogniser's embedding with two layers, as in IP-Adapter FaceID.

    Args:
        features: length of the embedding.
        tokens: number of tokens.
        width: channels of a token.
    """

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Sequential(nn.Linear(features, 2 * features), nn.GELU(), nn.Linear(2 * features, tokens * width))
        self.norm = nn.LayerNorm(width)

    def forward(self, embedding: Tensor) -> Tensor:
        """Project (N, features) to (N, tokens, width)."""
        return self.norm(self.proj(embedding).unflatten(1, (self.tokens, -1)))


class ImagePrompt(nn.Module):
    """Makes image tokens of reference faces: frozen encoders and a trained projection.

    Args:
        config: the encoders and the projection to use.
        image: CLIP's vision model or an :class:`AppearanceEncoder`, if ``config.source`` has one.
        recogniser: a face recogniser, if ``config.source`` has one.

    Raises:
        UserError: an invalid option.
    """

    def __init__(
        self, config: ImagePromptConfig, image: ImageEncoder | AppearanceEncoder | None, recogniser: Recogniser | None
    ) -> None:
        super().__init__()
        if (image is not None, recogniser is not None) != SOURCES[config.source]:
            raise ValueError(f"these are not the encoders of image_prompt.source {config.source}")
        if isinstance(image, AppearanceEncoder) and (config.projection != Projections.patches or config.train_encoder):
            raise UserError(
                "image_prompt.source appearance needs image_prompt.projection=patches and train_encoder=false"
            )
        self.config, self.image, self.recogniser = config, image, recogniser
        self.image_proj: nn.Module | None = None
        self.face_proj: nn.Module | None = None
        embedding = _embedding_width(recogniser) if recogniser is not None else 0
        if config.projection == Projections.linear:
            vector = (image.config.projection if image is not None else 0) + embedding
            self.image_proj = LinearProjection(vector, config.tokens, config.width)
        else:
            if image is not None and config.projection == Projections.patches:
                self.image_proj = (
                    PlaceProjection(image.width, config.width, image.states)
                    if isinstance(image, AppearanceEncoder)
                    else PatchProjection(image.width, config.width)
                )
            elif image is not None:
                self.image_proj = Resampler(image.width, config)
            if recogniser is not None:
                self.face_proj = FaceTokens(embedding, config.face_tokens, config.width)

    @property
    def count(self) -> int:
        """The number of image tokens of one reference."""
        beside = self.config.face_tokens if self.face_proj is not None else 0
        if isinstance(self.image_proj, PatchProjection | PlaceProjection):
            return beside + self.image.states
        return beside + (self.config.tokens if self.image_proj is not None else 0)

    def features(self, faces: Tensor) -> list[Tensor]:
        """Compute the encoders' features. Only CLIP's model gets a gradient, and only with ``train_encoder``.

        Args:
            faces: (N, 3, S, S) in [-1, 1], aligned to the five-point template of :mod:`ipfvr.faces.align`.

        Returns:
            The features that ``source`` has: CLIP's projected vectors (N, D), or its hidden states (N, L, D) for
            resampler and patches, then the recogniser's embeddings (N, D'), scaled to length sqrt(D') so that their
            elements have about unit size.
        """
        found = []
        if self.image is not None:
            with torch.set_grad_enabled(self.config.train_encoder and torch.is_grad_enabled()):
                found.append(
                    self.image.project(faces) if self.config.projection == Projections.linear else self.image(faces)
                )
        if self.recogniser is not None:
            landmarks = face_template(faces.shape[-1])[None].repeat(len(faces), 0)
            with torch.no_grad():
                embedding = self.recogniser.embed(warp_faces(faces, landmarks))
            found.append(embedding * embedding.shape[1] ** 0.5)
        return found

    def tokens(self, features: Sequence[Tensor], references: int) -> Tensor:
        """Make image tokens of features.

        Args:
            features: of :meth:`features`, for B * ``references`` faces; zeros stand for no picture.
            references: R, faces of one person.

        Returns:
            (B, R * N, width), with ``references: mean`` (B, N, width); N is :attr:`count`.
        """
        if self.config.projection == Projections.linear:
            tokens = self.image_proj(torch.cat([*features], 1))
        else:
            projections = [p for p in (self.image_proj, self.face_proj) if p is not None]
            tokens = torch.cat([p(f) for p, f in zip(projections, features, strict=True)], 1)
        people = tokens.unflatten(0, (-1, references))
        return people.mean(1) if self.config.references == SeveralReferences.mean else people.flatten(1, 2)

    def nobody(self) -> Tensor:
        """Make the image tokens of no picture, (1, N, width): the projection of zero features."""
        device = next(self.parameters()).device
        features = self.features(torch.zeros(1, 3, ARCFACE_SIZE, ARCFACE_SIZE, device=device))
        return self.tokens([torch.zeros_like(f) for f in features], 1)

    def forward(self, faces: Tensor) -> Tensor:
        """Make image tokens of references.

        Args:
            faces: (R, 3, S, S) of one person or (B, R, 3, S, S), see :meth:`features`.

        Returns:
            (1, R * N, width) or (B, R * N, width), see :meth:`tokens`.
        """
        people = faces[None] if faces.ndim == 4 else faces
        return self.tokens(self.features(people.flatten(0, 1)), people.shape[1])


class _PerceiverAttention(nn.Module):
    """Queries attend to a sequence and to themselves (Flamingo's Perceiver resampler)."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner, self.heads = heads * head_dim, heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, sequence: Tensor, latents: Tensor) -> Tensor:
        sequence, latents = self.norm1(sequence), self.norm2(latents)
        key, value = self.to_kv(torch.cat([sequence, latents], 1)).chunk(2, -1)
        return self.to_out(attend(self.to_q(latents), key, value, self.heads))


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


@torch.no_grad()
def _embedding_width(recogniser: Recogniser) -> int:
    return recogniser.embed(recogniser.mean.new_zeros(1, 3, ARCFACE_SIZE, ARCFACE_SIZE)).shape[1]
