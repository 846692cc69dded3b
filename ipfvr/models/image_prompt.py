"""References to image tokens: the visual encoder's part of Section 3.2.

Two projections are those of IP-Adapter (Ye et al. 2023), with the names its files have: ``linear`` makes tokens of one
vector a picture, ``resampler`` (plus, plus-face) lets learned queries read a sequence of features. ``patches`` makes a
token of every patch: nothing is summed up, so that a cross-attention can look up how this person's eye is drawn where
the eye is. With ``train_encoder`` the encoder itself learns to say what a restoration needs, as mini's does, which has
no pretrained one.

A recogniser's embedding says who it is and little else, CLIP's hidden states say how the face looks, tattoos and all.
With ``source: appearance`` the hidden states are the reference's own latents (:mod:`ipfvr.models.appearance`), with
learned places, beside a recogniser's vector: how the face looks, and who it is.
With ``source: both`` the linear projection reads the two vectors as one, while the resampler reads CLIP's states alone
and the embedding becomes image tokens of its own beside the resampler's. It must not be read through the resampler:
there a few tokens drown among CLIP's many. Measured on mini's training people before any training, nearest neighbours
by image tokens are of one person in 0.95 of the cases by the embedding's own tokens and in 0.06 by the resampler's that
had read both; training did not bring it back. The resampler keeps plus-face's names and shapes.
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
# Whether a source has an encoder of the picture's look (CLIP's model, or latents), and whether it has a recogniser.
SOURCES = {
    PromptSources.none: (False, False),
    PromptSources.clip: (True, False),
    PromptSources.recogniser: (False, True),
    PromptSources.both: (True, True),
    PromptSources.appearance: (True, True),
}


class LinearProjection(nn.Module):
    """IP-Adapter's projection of one vector a picture to tokens.

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
        """(N, features) to (N, tokens, width)."""
        return self.norm(self.proj(vectors).unflatten(1, (self.tokens, -1)))


class PatchProjection(nn.Module):
    """A token of every hidden state, which says itself where in the picture it lies.

    Args:
        features: channels of the sequence.
        width: channels of a token.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(features, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, sequence: Tensor) -> Tensor:
        """(N, L, features) to (N, L, width)."""
        return self.norm(self.proj(sequence))


class PlaceProjection(nn.Module):
    """A token of every place of a reference's latents: what is drawn there and about it, and where that is.

    Convolutions over the square of states let a token tell an eyelid from a fold of a shirt; each place has a learned
    vector of its own, as the latents do not say where they lie.

    Args:
        features: channels of the sequence.
        width: channels of a token.
        places: length of the sequence, a square.
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
        """(N, places, features), in order of rows, to (N, places, width)."""
        x = self.proj(sequence.transpose(1, 2).unflatten(2, (self.side, self.side)))
        for layer in self.layers:
            x = x + layer(x)
        return self.norm(x.flatten(2).transpose(1, 2) + self.places)


class Resampler(nn.Module):
    """IP-Adapter plus's projection of a sequence: learned queries attend to it and to each other, layer by layer.

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
        """(N, L, features) to (N, tokens, width)."""
        sequence = self.proj_in(sequence)
        latents = self.latents.expand(len(sequence), -1, -1)
        for attention, feed_forward in self.layers:
            latents = latents + attention(sequence, latents)
            latents = latents + feed_forward(latents)
        return self.norm_out(self.proj_out(latents))


class FaceTokens(nn.Module):
    """A recogniser's embedding as tokens: a network of two layers, as in IP-Adapter FaceID.

    Args:
        features: length of the embedding.
        tokens: how many.
        width: channels of a token.
    """

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Sequential(nn.Linear(features, 2 * features), nn.GELU(), nn.Linear(2 * features, tokens * width))
        self.norm = nn.LayerNorm(width)

    def forward(self, embedding: Tensor) -> Tensor:
        """(N, features) to (N, tokens, width)."""
        return self.norm(self.proj(embedding).unflatten(1, (self.tokens, -1)))


class ImagePrompt(nn.Module):
    """Reference faces to image tokens: frozen encoders and the projection that is trained.

    Args:
        config: which encoders, which projection.
        image: CLIP's vision model or an :class:`AppearanceEncoder`, where ``config.source`` has one.
        recogniser: a face recogniser, where ``config.source`` has it.

    Raises:
        UserError: an option without meaning.
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
        """Image tokens of one reference."""
        beside = self.config.face_tokens if self.face_proj is not None else 0
        if isinstance(self.image_proj, PatchProjection | PlaceProjection):
            return beside + self.image.states
        return beside + (self.config.tokens if self.image_proj is not None else 0)

    def features(self, faces: Tensor) -> list[Tensor]:
        """What the encoders see; with a gradient to CLIP's model alone, where ``train_encoder`` has it learn.

        Args:
            faces: (N, 3, S, S) in [-1, 1], aligned to the five-point template of :mod:`ipfvr.faces.align`.

        Returns:
            CLIP's projected vectors (N, D), for a resampler and patches its hidden states (N, L, D), then the
            recogniser's embeddings (N, D'), of length sqrt(D') so that their elements are of the size that layers
            expect; those that ``source`` has.
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
        """Image tokens of features.

        Args:
            features: of :meth:`features`, for B * ``references`` faces; zeros are the features of no picture.
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
        """Image tokens of no picture, (1, N, width): what the projection makes of features that are zero."""
        device = next(self.parameters()).device
        features = self.features(torch.zeros(1, 3, ARCFACE_SIZE, ARCFACE_SIZE, device=device))
        return self.tokens([torch.zeros_like(f) for f in features], 1)

    def forward(self, faces: Tensor) -> Tensor:
        """Image tokens of references.

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
