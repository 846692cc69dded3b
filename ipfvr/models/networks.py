"""The networks that restore, loaded once and shared by all who are restored with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ipfvr.core.devices import choose_device, choose_dtype
from ipfvr.core.options import Config
from ipfvr.models.backbone import make_codec, make_denoiser, make_image_prompt, make_text_encoder
from ipfvr.models.image_prompt import ImagePrompt
from ipfvr.models.lora import load_lora
from ipfvr.models.text import TextEncoder
from ipfvr.models.unet import VideoDenoiser
from ipfvr.models.vae import LatentCodec
from ipfvr.weights.needs import NETWORKS, image_prompt_parts, weight_files


class Networks:
    """Codec, text encoder, denoiser with its LoRA, and image prompt of a configuration.

    Args:
        config: names the weights; a LoRA (``weights.lora``) is merged into the denoiser.
        like: networks of a configuration that differs in the LoRA alone; codec and text encoder are theirs.

    Attributes:
        lora: the card of the person's LoRA, or None.
        files: the weights that were loaded, for provenance.

    Raises:
        UserError: weights that are not there or do not fit, a LoRA of other weights, a device that is not there, an
            unknown type.
    """

    def __init__(self, config: Config, like: Networks | None = None) -> None:
        self.config = config
        self.device = choose_device(config.device)
        self.dtype = choose_dtype(config.dtype, self.device)
        torch.manual_seed(config.seed)  # where a preset names no weights they are random, and the same each time
        self.codec = like.codec if like is not None else make_codec(config).to(self.device)
        self.text_encoder = like.text_encoder if like is not None else make_text_encoder(config)
        self.denoiser = make_denoiser(config, self.dtype).to(self.device)
        lora = config.weights.lora
        self.lora: dict[str, Any] | None = load_lora(self.denoiser, Path(lora), config) if lora else None
        self.files = weight_files(config, NETWORKS)
        self._prompt: ImagePrompt | None = None

    @classmethod
    def of_training(
        cls, config: Config, codec: LatentCodec, text: TextEncoder, denoiser: VideoDenoiser, prompt: ImagePrompt | None
    ) -> Networks:
        """Return the networks that a training holds, as they are and where they are, to restore with in between."""
        networks = cls.__new__(cls)
        networks.config, networks.codec, networks.text_encoder, networks.denoiser = config, codec, text, denoiser
        place = next(denoiser.parameters())
        networks.device, networks.dtype = place.device, place.dtype
        networks.lora, networks.files, networks._prompt = None, {}, prompt
        return networks

    def image_prompt(self) -> ImagePrompt | None:
        """The references' way into the denoiser, made when first asked for; None: ``weights.adapter`` is empty."""
        if self._prompt is None and self.config.weights.adapter:
            self._prompt = make_image_prompt(self.config, self.denoiser)
            if self._prompt is not None:
                self._prompt.to(self.device)
                self.files.update(weight_files(self.config, image_prompt_parts(self.config)))
        return self._prompt


def load_networks(config: Config, loaded: list[Networks]) -> Networks:
    """Networks of a configuration: those of ``loaded`` that have the same LoRA, else new ones, which are added to it.

    Args:
        config: differs from those of ``loaded`` in its LoRA and its words alone.
        loaded: what has been loaded so far.

    Raises:
        UserError: as :class:`Networks`.
    """
    for networks in loaded:
        if networks.config.weights.lora == config.weights.lora:
            return networks
    loaded.append(Networks(config, loaded[0] if loaded else None))
    return loaded[-1]
