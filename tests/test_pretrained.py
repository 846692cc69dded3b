"""Denoiser and codec as networks of diffusers: saved, loaded, offloaded, and still the same."""

from __future__ import annotations

import json
from pathlib import Path

import accelerate
import pytest
import torch
from diffusers.models import modeling_utils
from torch import Tensor

from ipfvr.core.config import load_config
from ipfvr.core.options import DenoiserConfig, VAEConfig
from ipfvr.models.backbone import make_codec
from ipfvr.models.pretrained import PretrainedNetwork
from ipfvr.models.unet import VideoDenoiser
from ipfvr.models.vae import LatentCodec

TINY = DenoiserConfig(
    width=4, multipliers=[1, 2], attention_levels=[0], head_dim=2, input_heads=3, text_width=6, norm_groups=2
)
SMALL = VAEConfig(patch_size=2, latent_channels=3, block_out_channels=[8], norm_groups=4, output_norm=False)


def denoiser() -> VideoDenoiser:
    """With an image prompt and random weights everywhere: layers that are zero would hide others."""
    torch.manual_seed(0)
    network = VideoDenoiser(TINY).eval()
    network.add_image_prompt(10)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def arguments(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    x, hint = torch.randn(2, 1, 4, 2, 8, 8, generator=g, dtype=dtype)
    text, tokens = torch.randn(1, 5, 6, generator=g, dtype=dtype), torch.randn(1, 3, 10, generator=g, dtype=dtype)
    one = torch.tensor([500])
    return x, one, text, hint, one * 0, one * 0 + 2, torch.zeros(1, 2), tokens


@torch.no_grad()
def same(a: PretrainedNetwork, b: PretrainedNetwork) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@torch.no_grad()
def test_a_denoiser_comes_back_bit_for_bit(tmp_path: Path) -> None:
    network = denoiser()
    network.save_pretrained(tmp_path)
    again = VideoDenoiser.from_pretrained(tmp_path)
    assert same(again, network)
    assert torch.equal(again(*arguments()), network(*arguments()))
    content = json.loads((tmp_path / "config.json").read_text())
    assert (content["width"], content["multipliers"], content["image_prompt_width"]) == (4, [1, 2], 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize("kind", ["small", "mini", "full"])
@torch.no_grad()
def test_a_codec_comes_back_with_its_padding(tmp_path: Path, kind: str) -> None:
    codec = LatentCodec(SMALL, (2, 4)).eval()
    if kind == "mini":  # with all parts computed, as the loaded one computes them: equal bit by bit
        codec = make_codec(load_config(None, ["preset=mini"]), trained=True)
    if kind == "full":  # Stable Video Diffusion's decoder, of a few channels
        codec = LatentCodec(VAEConfig(kind="temporal", block_out_channels=[32, 32], layers_per_block=1)).eval()
    codec.save_pretrained(tmp_path)
    again = LatentCodec.from_pretrained(tmp_path)
    assert same(again, codec)
    assert again.padding == codec.padding
    pixels = torch.rand(2, 3, 32 - codec.padding[0], 32 - codec.padding[1]) * 2 - 1
    assert torch.equal(again.decode(again.encode(pixels)), codec.decode(codec.encode(pixels)))


@torch.no_grad()
def test_a_type_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a cast is not warned about: no layer has to stay in single precision."""
    monkeypatch.setattr(modeling_utils.logger, "warning", lambda text: pytest.fail(text))
    network = denoiser()
    network.save_pretrained(tmp_path)
    half = VideoDenoiser.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    given = arguments(torch.bfloat16)
    assert torch.equal(half(*given), network.to(torch.bfloat16)(*given))


def test_sizes_stand_in_the_options_alone() -> None:
    """What ``from_config`` does not find has the option's default; a change is as an option on top."""
    assert VideoDenoiser.from_config({**TINY.__dict__, "width": 8}).config.width == 8
    network, unused = VideoDenoiser.from_config(TINY.__dict__, return_unused_kwargs=True, head_dim=1, nothing=3)
    assert network.config.head_dim == 1
    assert network.config.res_blocks == DenoiserConfig().res_blocks
    assert unused == {"nothing": 3}


@pytest.mark.parametrize("place", ["processor", "disk", "map"])
@torch.no_grad()
def test_weights_that_wait_elsewhere_give_the_same_numbers(tmp_path: Path, place: str) -> None:
    network = denoiser()
    network.save_pretrained(tmp_path / "saved")
    expected = network(*arguments())
    if place == "map":
        parts = {"unet": "cpu", "controlnet": "disk"}
        network = VideoDenoiser.from_pretrained(
            tmp_path / "saved", device_map=parts, offload_folder=str(tmp_path / "disk")
        )
    elif place == "disk":
        accelerate.disk_offload(network, str(tmp_path / "disk"), execution_device=torch.device("cpu"))
    else:
        accelerate.cpu_offload(network, torch.device("cpu"))
    assert any(parameter.is_meta for parameter in network.parameters())
    assert torch.equal(network(*arguments()), expected)
    # The sampler runs the parts by themselves, see ipfvr.diffusion.sampler.
    x, t, text, hint, t_hint, scale, mask, tokens = arguments()
    stems = network.begin(x, t, hint, t_hint, scale, mask)
    control = network.control(x, t, text, hint, t_hint, scale, mask, stems.controlnet)
    found = network(x, t, text, hint, t_hint, scale, mask, tokens, control=control, stem=stems.unet)
    assert torch.equal(found, expected)


def test_gradient_checkpointing_is_switched_as_diffusers_does_it() -> None:
    def gradients(network: VideoDenoiser) -> dict[str, Tensor]:
        network.zero_grad()
        network(*arguments()).square().sum().backward()
        return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}

    network = denoiser()
    kept = gradients(network)
    network.enable_gradient_checkpointing()
    assert network.is_gradient_checkpointing
    saved = gradients(network)
    assert all(torch.allclose(saved[name], kept[name], atol=1e-6) for name in kept)
