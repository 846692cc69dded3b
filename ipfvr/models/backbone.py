"""Builds the denoiser and the networks around it from a configuration and loads their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ipfvr.core.choices import PromptSources
from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic
from ipfvr.core.options import Config
from ipfvr.faces.recognise import load_recogniser
from ipfvr.models.adapter import load_adapter
from ipfvr.models.appearance import AppearanceEncoder
from ipfvr.models.attention import scale_schedule
from ipfvr.models.checkpoints import load_denoiser
from ipfvr.models.image import ImageEncoder
from ipfvr.models.image_prompt import SOURCES, ImagePrompt
from ipfvr.models.text import TextEncoder, byte_tokenizer, load_tokenizer
from ipfvr.models.unet import VideoDenoiser, build_denoiser, fitting_latent_size
from ipfvr.models.vae import LatentCodec, pixels_per_latent, skip_idle_parts
from ipfvr.weights.registry import locate


def make_codec(config: Config, *, trained: bool = False) -> LatentCodec:
    """Build the autoencoder and load ``weights.vae``; its weights are random if that option is empty.

    The codec pads frames of ``video.size`` to a size that the denoiser accepts: for VEnhancer 720 x 720 to 720 x 768.

    Args:
        config: ``vae``, ``video``, ``denoiser`` and ``weights.vae`` are used.
        trained: whether it will be trained; otherwise parts that add nothing are left out.
    """
    codec = LatentCodec(config.vae, frame_padding(config, pixels_per_latent(config.vae)))
    if config.weights.vae:
        load_module(codec.vae, locate(config.weights.vae))
        if not trained:
            skip_idle_parts(codec)
    return _frozen(codec)


def frame_padding(config: Config, factor: int) -> tuple[int, int]:
    """Return how many rows and columns of pixels a square frame must be padded by before the denoiser accepts it.

    Args:
        config: ``video`` and ``denoiser`` are used.
        factor: pixels that a latent position covers on a side.
    """
    size = config.video.size
    rows, columns = fitting_latent_size(config.denoiser, -(-size // factor), -(-size // factor))
    return rows * factor - size, columns * factor - size


def make_text_encoder(config: Config) -> TextEncoder:
    """Build the text encoder, with ``weights.tokenizer`` and ``weights.text``."""
    name = config.weights.tokenizer
    encoder = TextEncoder(config.text, load_tokenizer(locate(name)) if name else byte_tokenizer())
    if config.weights.text:
        # Stable Diffusion's text encoders come without the projection, which only contrastive training needs.
        load_module(encoder.clip, locate(config.weights.text), may_lack=("text_projection.weight",))
    return _frozen(encoder)


def make_image_encoder(config: Config) -> ImageEncoder:
    """Build the CLIP encoder of references and load ``weights.image``."""
    encoder = ImageEncoder(config.image)
    if config.weights.image:
        load_module(encoder.clip, locate(config.weights.image))
    return _frozen(encoder)


def make_image_prompt(config: Config, denoiser: VideoDenoiser) -> ImagePrompt | None:
    """Build the image prompt (Eq. 4) and load ``weights.adapter``.

    This changes the denoiser: every cross-attention gets K_i and V_i (V_i is zero if ``weights.adapter`` is empty) and
    lambda.

    Args:
        config: see :class:`ipfvr.core.options.ImagePromptConfig`.
        denoiser: of :func:`make_denoiser`; it keeps its device and type.

    Returns:
        The encoders and the projection, or None if ``image_prompt.source`` is ``none``.

    Raises:
        UserError: an invalid option, or weights that are missing or do not fit.
    """
    section, sampler = config.image_prompt, config.sampler
    if section.source == PromptSources.none:
        return None
    with_look, with_recogniser = SOURCES[section.source]
    if with_recogniser and not config.weights.face_encoder:
        raise UserError(f"image_prompt.source {section.source} needs weights.face_encoder, such as mini/dlib")
    prompt = ImagePrompt(
        section,
        _look_encoder(config) if with_look else None,
        load_recogniser(config.weights.face_encoder) if with_recogniser else None,
    )
    denoiser.add_image_prompt(section.width)
    scale = [section.scale * share for share in section.block_scales] or section.scale
    shares = None
    if section.step_scales:
        first, last = sampler.start_step, sampler.end_step
        shares = scale_schedule(section.step_scales, first, last, config.schedule.timesteps)
    denoiser.set_image_scale(scale, shares)
    if config.weights.adapter:
        load_adapter(prompt, denoiser, locate(config.weights.adapter))
    _frozen(denoiser)
    return _frozen(prompt)


def _look_encoder(config: Config) -> ImageEncoder | AppearanceEncoder:
    if config.image_prompt.source == "appearance":
        return AppearanceEncoder(make_codec(config), config.video.size)
    return make_image_encoder(config)


def make_denoiser(config: Config, dtype: torch.dtype = torch.float32) -> VideoDenoiser:
    """Build the denoiser and load ``weights.denoiser`` without a second copy in memory."""
    if not config.weights.denoiser:
        return _frozen(build_denoiser(config.denoiser)).to(dtype)
    with torch.device("meta"):
        denoiser = build_denoiser(config.denoiser)
    load_denoiser(denoiser, locate(config.weights.denoiser), dtype)
    return _frozen(denoiser)


def load_module(module: nn.Module, path: Path, may_lack: tuple[str, ...] = ()) -> None:
    """Load a safetensors file, or the only one in a folder of diffusers' layout, key by key.

    Raises:
        UserError: keys that are missing, left over or of another shape; the line names the first.
    """
    if path.is_dir():
        inside = sorted(path.glob("*.safetensors"))
        if len(inside) != 1:
            raise UserError(f"{path} must hold one .safetensors file, it holds {len(inside)}")
        path = inside[0]
    try:
        # Older transformers wrote this buffer of consecutive numbers; the networks count for themselves.
        weights = {name: value for name, value in load_file(path).items() if not name.endswith("position_ids")}
    except Exception as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from None
    expected = module.state_dict()
    for name in may_lack:
        weights.setdefault(name, expected[name])
    wrong = sorted(set(expected) ^ set(weights)) or [n for n, v in expected.items() if weights[n].shape != v.shape]
    if wrong:
        raise UserError(f"{path} does not fit the configured network at {len(wrong)} keys, the first is '{wrong[0]}'")
    module.load_state_dict(weights)


def save_module(weights: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write weights in half precision (integers unchanged) with metadata. The file is complete or does not exist."""
    half = {k: v.detach().cpu().half().contiguous() if v.is_floating_point() else v for k, v in weights.items()}
    with atomic(path) as temporary:
        save_file(half, temporary, metadata=dict(metadata))


def _frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)
