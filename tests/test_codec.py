"""The autoencoder and the encoders of words and pictures."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ipfvr.conditioning.attributes import WORDS, compose_sentence
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import VAEConfig
from ipfvr.core.pixels import resize, to_frames, to_tensor
from ipfvr.models.backbone import load_module, make_codec, make_image_encoder, make_text_encoder, save_module
from ipfvr.models.text import byte_tokenizer, train_tokenizer
from ipfvr.models.vae import LatentCodec, skip_idle_parts, start_from_principal_components


def patch_codec(latent: int = 12, width: int = 48) -> VAEConfig:
    return VAEConfig(
        patch_size=4,
        latent_channels=latent,
        block_out_channels=[width],
        layers_per_block=1,
        norm_groups=8,
        mid_attention=False,
        output_norm=False,
        scaling_factor=0.5,
        frames_per_chunk=3,
    )


def pictures(count: int = 24, side: int = 32) -> torch.Tensor:
    noise = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2)


def test_the_linear_start_is_the_projection_on_principal_components() -> None:
    x, codec = pictures(), LatentCodec(patch_codec())
    start_from_principal_components(codec, x)
    patches = torch.nn.functional.pixel_unshuffle(x, 4).permute(0, 2, 3, 1).flatten(0, 2).double()
    centred = patches - patches.mean(0)
    values = torch.linalg.svdvals(centred)
    least = values[12:].square().sum() / patches.numel()  # Eckart and Young: no linear map of rank 12 does better
    with torch.no_grad():
        error = (codec.decode(codec.encode(x)) - x).double().square().mean()
    assert error == pytest.approx(float(least), rel=1e-3)


def test_a_full_linear_codec_is_the_identity() -> None:
    x, codec = pictures(), LatentCodec(patch_codec(latent=48))
    start_from_principal_components(codec, x)
    with torch.no_grad():
        assert torch.allclose(codec.decode(codec.encode(x)), x, atol=1e-4)


def left_out(codec: LatentCodec) -> int:
    """How many of its parts are not computed as they were built."""
    return sum("forward" in vars(part) for part in codec.modules())


def test_a_linear_codec_leaves_out_what_adds_nothing_and_computes_the_same() -> None:
    x, codec = pictures(), LatentCodec(patch_codec())
    start_from_principal_components(codec, x)
    state = {name: value.clone() for name, value in codec.state_dict().items()}
    with torch.no_grad():
        latents = codec.encode(x)
        pixels = codec.decode(latents)
    skip_idle_parts(codec)
    assert left_out(codec) == 7 + 7 + 4  # the blocks, their last convolutions, both halves' first and last layers
    assert all(torch.equal(value, state[name]) for name, value in codec.state_dict().items())
    for one in (codec, deepcopy(codec)):
        z = latents.clone().requires_grad_(True)
        decoded = one.decode(z)
        assert torch.allclose(one.encode(x), latents, atol=1e-6)
        assert torch.allclose(decoded, pixels, atol=1e-6)
        decoded.sum().backward()
        assert z.grad.any()


def test_a_codec_that_has_learned_is_computed_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = LatentCodec(patch_codec())
    skip_idle_parts(codec)
    assert not left_out(codec)
    start_from_principal_components(codec, pictures())
    save_module(codec.vae.state_dict(), tmp_path / "vae.safetensors", {})
    config = load_config(None, [f"weights.vae={tmp_path / 'vae.safetensors'}"])
    config = replace(config, vae=patch_codec())
    assert left_out(make_codec(config))
    assert not left_out(make_codec(config, trained=True))  # or its blocks would never learn


def test_chunks_change_nothing() -> None:
    torch.manual_seed(0)
    x, config = pictures(7), patch_codec()
    codec = LatentCodec(config).eval()
    with torch.no_grad():
        parts = codec.decode(codec.encode(x))
        config.frames_per_chunk = 100
        assert torch.allclose(codec.decode(codec.encode(x)), parts, atol=1e-5)


def test_the_temporal_decoder_is_an_option() -> None:
    config = VAEConfig(kind="temporal", block_out_channels=[32, 32], layers_per_block=1, latent_channels=4)
    codec = LatentCodec(config).eval()
    with torch.no_grad():
        z = codec.encode(pictures(3))
        assert z.shape == (3, 4, 16, 16)
        assert codec.decode(z).shape == (3, 3, 32, 32)


def test_full_is_stable_diffusions_autoencoder() -> None:
    with torch.device("meta"):
        codec = LatentCodec(load_config(None, ["preset=full"]).vae)
    assert codec.factor == 8
    assert sum(p.numel() for p in codec.vae.parameters()) == 83_653_863  # as diffusers' model cards say: 83.7 M


def test_padding_repeats_the_edge_and_is_cut_off_again() -> None:
    torch.manual_seed(0)
    x, plain = pictures(2), LatentCodec(patch_codec()).eval()
    padded = LatentCodec(patch_codec(), padding=(4, 8)).eval()
    padded.load_state_dict(plain.state_dict())
    with torch.no_grad():
        by_hand = torch.cat([x, x[:, :, -1:].expand(-1, -1, 4, -1)], 2)
        by_hand = torch.cat([by_hand, by_hand[..., -1:].expand(-1, -1, -1, 8)], 3)
        z = padded.encode(x)
        assert torch.equal(z, plain.encode(by_hand))
        assert torch.equal(padded.decode(z), plain.decode(z)[..., : x.shape[2], : x.shape[3]])


def test_a_codec_pads_to_what_the_denoiser_takes() -> None:
    with torch.device("meta"):
        full = make_codec(load_config(None, ["preset=full", "weights.vae="]))
    assert full.padding == (0, 48)
    assert make_codec(load_config(None, ["preset=mini", "weights.vae="])).padding == (0, 0)


def test_weights_that_do_not_fit_are_refused(tmp_path) -> None:
    small, large = LatentCodec(patch_codec()), LatentCodec(patch_codec(width=56))
    file = tmp_path / "vae.safetensors"
    save_module(small.vae.state_dict(), file, {"a": "b"})
    load_module(small.vae, file)
    with pytest.raises(UserError, match="does not fit"):
        load_module(large.vae, file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_module(small.vae, file)


def test_pixels_round_trip_and_resize() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert np.array_equal(to_frames(to_tensor(frames)), frames)
    constant = torch.full((1, 3, 8, 8), 0.25)
    assert torch.allclose(resize(constant, 20), torch.full((1, 3, 20, 20), 0.25), atol=1e-6)
    assert torch.allclose(resize(constant, 4), torch.full((1, 3, 4, 4), 0.25), atol=1e-6)
    assert resize(constant, 8) is constant


def test_text_is_read_at_the_layer_that_is_asked_for() -> None:
    config = load_config(None, ["preset=tiny"])
    torch.manual_seed(0)
    encoder = make_text_encoder(config)
    ids = encoder.tokenize(["a man"])
    assert ids.shape == (1, 77)
    with torch.no_grad():
        penultimate = encoder(["a man"])
        encoder.config.skip_last = 0
        last = encoder(["a man"])
        states = encoder.clip(ids, output_hidden_states=True)
    assert torch.equal(last, states.last_hidden_state)
    assert not torch.allclose(last, penultimate)
    assert penultimate.shape == (1, 77, 16)


def test_a_trained_vocabulary_can_say_anything(tmp_path) -> None:
    tokenizer = train_tokenizer(["a young woman with brown hair"] * 9, 600, tmp_path)
    for text in ("a young woman", "zebra, émigré!", "老照片"):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).strip().replace(" ", "") == (
            text.replace(" ", "")
        )
    assert len(tokenizer("brown hair").input_ids) < len(byte_tokenizer()("brown hair").input_ids)


def test_no_true_attribute_is_lost_in_the_sentence() -> None:
    sentence = compose_sentence(dict.fromkeys(WORDS, True))
    assert all(words in sentence for _, words in WORDS.values())
    assert compose_sentence({"Male": False, "Young": True, "Smiling": True}) == "a young woman, smiling"


def test_the_image_encoder_takes_any_size() -> None:
    config = load_config(None, ["preset=tiny"])
    encoder = make_image_encoder(config)
    with torch.no_grad():
        assert encoder(pictures(2, 50)).shape == (2, 17, 16)
        assert encoder.project(pictures(2, 32)).shape == (2, 16)


def test_minis_codec_keeps_a_face() -> None:
    skimage = pytest.importorskip("skimage.data")
    face = skimage.astronaut()[40:168, 160:288]
    x = to_tensor(face[None])
    codec = make_codec(load_config(None, ["preset=mini"]))
    with torch.no_grad():
        error = (codec.decode(codec.encode(x)).clamp(-1, 1) - x).square().mean()
    assert 10 * torch.log10(4 / error) > 24
