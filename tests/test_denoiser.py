"""The denoiser: the original's numbers, equal constructions, Eq. 4, gradients."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.options import DenoiserConfig
from ipfvr.models.attention import ImagePromptProcessor, attend, decoupled_cross_attention
from ipfvr.models.blocks import Downsample, TemporalTransformer, Upsample
from ipfvr.models.checkpoints import load_weights, own_weights
from ipfvr.models.unet import VideoDenoiser, build_denoiser, check_latent_size, fitting_latent_size

ROOT = Path(__file__).parents[1]
PARITY = ROOT.parent / "shared" / "parity"
sys.path.insert(0, str(ROOT / "benchmarks"))

from parity_weights import SMALL, parity_weights  # noqa: E402

TINY = DenoiserConfig(
    width=8,
    multipliers=[1, 2],
    res_blocks=1,
    attention_levels=[0],
    head_dim=4,
    input_heads=2,
    text_width=6,
    norm_groups=4,
    odd_sizes=False,
    temporal_on_pictures=False,
)


def tiny(**changes: object) -> VideoDenoiser:
    """A denoiser of which no weight is zero."""
    denoiser = build_denoiser(dataclasses.replace(TINY, **changes))
    load_weights(denoiser, parity_weights({name: w.shape for name, w in own_weights(denoiser).items()}))
    return denoiser.eval()


def inputs(clips: int = 1, frames: int = 3, keys: int = 3, seed: int = 0, size: int = 8) -> dict[str, Tensor]:
    """Random arguments of a denoiser; each clip has key frames of its own, ``keys`` of them."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(clips, frames, dtype=torch.long)
    for row in mask:
        row[torch.randperm(frames, generator=g)[:keys]] = 0
    return {
        "x": torch.randn(clips, 4, frames, size, size, generator=g),
        "t": torch.randint(0, 1000, (clips,), generator=g),
        "text": torch.randn(clips, 5, 6, generator=g),
        "hint": torch.randn(clips, 4, keys, size, size, generator=g),
        "t_hint": torch.randint(0, 300, (clips,), generator=g),
        "up_scale": torch.randint(1, 8, (clips,), generator=g),
        "mask_cond": mask,
    }


@pytest.mark.skipif(not PARITY.is_dir(), reason="the original's numbers (../shared/parity) are not here")
@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_equals_the_original(case: str) -> None:
    keys = json.loads((PARITY / "venhancer_keys.json").read_text())["small"]
    vectors = load_file(PARITY / "venhancer_small.safetensors")
    given = ("x", "t", "y", "hint", "t_hint", "up_scale", "mask_cond")
    arguments = [vectors[f"forward.{case}.{name}"] for name in given]
    out, first, last = (vectors[f"forward.{case}.{name}"] for name in ("out", "control_first", "control_last"))
    denoiser = build_denoiser(SMALL).eval()
    load_weights(denoiser, parity_weights(keys))
    with torch.no_grad():
        control = denoiser.control(*arguments)
        v = denoiser(*arguments)
    for ours, theirs in ((v, out), (control[0], first), (control[-1], last)):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < 1e-4 * theirs.std()


@torch.no_grad()
def test_batch_equals_single_runs() -> None:
    denoiser, batch = tiny(), inputs(clips=2, frames=4, keys=2)
    assert not torch.equal(batch["mask_cond"][0], batch["mask_cond"][1])
    together = denoiser(**batch)
    for i in range(2):
        alone = denoiser(**{name: tensor[i : i + 1] for name, tensor in batch.items()})
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_shared_control_changes_nothing_and_is_not_changed() -> None:
    denoiser, batch = tiny(), inputs()
    control = denoiser.control(**batch)
    before = [feature.clone() for feature in control]
    first = denoiser(**batch, control=control)
    assert torch.equal(first, denoiser(**batch))
    assert all(torch.equal(a, b) for a, b in zip(control, before, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("attention_levels", [[0], [1], []])
def test_the_stem_is_of_any_text_and_changes_nothing(attention_levels: list[int]) -> None:
    """Wherever the first attention to a text lies: in the first block, after a halving, in the middle."""
    denoiser, batch = tiny(attention_levels=attention_levels), inputs()
    texts = torch.randn(2, 1, 5, 6, generator=torch.Generator().manual_seed(4))
    stem, control_stem = denoiser.begin(**{name: value for name, value in batch.items() if name != "text"})
    given = [feature.clone() for feature in (*stem.features, stem.x, *control_stem.features, control_stem.x)]
    alone = []
    for text in texts:
        this = {**batch, "text": text}
        control = denoiser.control(**this, stem=control_stem)
        alone.append(denoiser(**this, control=control, stem=stem))
        assert torch.equal(alone[-1], denoiser(**this))
    assert (alone[0] - alone[1]).abs().max() > 1e-4
    after = (*stem.features, stem.x, *control_stem.features, control_stem.x)
    assert all(torch.equal(a, b) for a, b in zip(given, after, strict=True))
    twice = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in batch.items()} | {"text": texts[:, 0]}
    control = denoiser.control(**twice, stem=control_stem.repeat(2))
    together = denoiser(**twice, control=control, stem=stem.repeat(2))
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


@torch.no_grad()
def test_new_network_says_nothing_yet_and_hints_reach_the_output_when_trained() -> None:
    batch = inputs()
    fresh = build_denoiser(TINY)
    assert not any(feature.any() for feature in fresh.control(**batch))
    assert not fresh(**batch).any()
    trained = tiny()
    other = trained(**{**batch, "hint": batch["hint"] + 0.1})
    assert (other - trained(**batch)).abs().max() > 1e-3


@torch.no_grad()
def test_one_frame_skips_temporal_layers() -> None:
    picture = inputs(frames=1, keys=1)
    skipping, running = tiny(), tiny(temporal_on_pictures=True)
    assert (skipping(**picture) - running(**picture)).abs().max() > 1e-3
    # Temporal layers that end in zeros are the identity: then running them must equal skipping them.
    for module in running.modules():
        if isinstance(module, TemporalTransformer):
            torch.nn.init.zeros_(module.proj_out.weight)
            torch.nn.init.zeros_(module.proj_out.bias)
        elif hasattr(module, "temporal_conv"):
            torch.nn.init.zeros_(module.temporal_conv.conv4[-1].weight)
            torch.nn.init.zeros_(module.temporal_conv.conv4[-1].bias)
    torch.testing.assert_close(skipping(**picture), running(**picture), rtol=0, atol=1e-5)


def test_gradient_checkpointing_gives_equal_gradients() -> None:
    plain, frugal, batch = tiny(), tiny(gradient_checkpointing=True), inputs(frames=3, keys=2)
    for denoiser in (plain, frugal):
        denoiser(**batch).square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert a.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-8)


def test_gradient_equals_finite_difference() -> None:
    denoiser = tiny().double()
    batch = {name: t.double() if t.is_floating_point() else t for name, t in inputs(frames=2, keys=1).items()}
    for name in (
        "unet.down.0.temporal.proj_in.weight",
        "unet.middle.0.spatial.block.attn2.to_k.weight",
        "controlnet.hint_conv.weight",
        "controlnet.scale_embedding.mlp.linear_1.weight",
    ):
        weight = denoiser.get_parameter(name)
        loss = denoiser(**batch).square().sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        index = int(gradient.abs().argmax())
        step, losses = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                weight.flatten()[index].add_(sign * step)
                losses.append(denoiser(**batch).square().sum())
                weight.flatten()[index].sub_(sign * step)
        difference = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close(gradient.flatten()[index], difference, rtol=1e-6, atol=1e-9)


def test_eq4_equals_the_formula() -> None:
    g = torch.Generator().manual_seed(0)
    heads, d, scale = 3, 4, 0.7
    q, kt, vt, ki, vi = (torch.randn(2, n, heads * d, generator=g, dtype=torch.float64) for n in (7, 5, 5, 4, 4))

    def naive(k: Tensor, v: Tensor) -> Tensor:
        parts = []
        for h in range(heads):
            s = slice(h * d, (h + 1) * d)
            parts.append(torch.softmax(q[..., s] @ k[..., s].mT / d**0.5, -1) @ v[..., s])
        return torch.cat(parts, -1)

    expected = naive(kt, vt) + scale * naive(ki, vi)
    torch.testing.assert_close(decoupled_cross_attention(q, (kt, vt), (ki, vi), scale, heads), expected)
    torch.testing.assert_close(attend(q, kt, vt, heads), naive(kt, vt))


@torch.no_grad()
def test_image_prompt_costs_nothing_until_it_is_used() -> None:
    denoiser, batch = tiny(), inputs()
    tokens = torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(1))
    before, names = denoiser(**batch), set(denoiser.state_dict())
    assert torch.equal(denoiser(**batch, image_tokens=tokens), before)  # no place for it yet

    denoiser.add_image_prompt(width=10)
    added = set(denoiser.state_dict()) - names
    # Two projections in the transformer of the contracting half, the middle's, and the two of the expanding half.
    assert len(added) == 2 * 4
    assert all(name.startswith("unet.") for name in added)
    assert set(own_weights(denoiser)) == names
    assert torch.equal(denoiser(**batch), before)
    assert torch.equal(denoiser(**batch, image_tokens=tokens), before)  # V_i is zero

    for module in denoiser.modules():
        if isinstance(module, ImagePromptProcessor):
            torch.nn.init.normal_(module.to_v_ip.weight, generator=torch.Generator().manual_seed(2))
    assert torch.equal(denoiser(**batch), before)
    assert (denoiser(**batch, image_tokens=tokens) - before).abs().max() > 1e-3
    denoiser.set_image_scale(0.0)
    assert torch.equal(denoiser(**batch, image_tokens=tokens), before)


def test_every_cross_attention_of_the_full_network_has_a_place() -> None:
    with torch.device("meta"):
        denoiser = build_denoiser(DenoiserConfig())
    widths = [attention.inner_dim for attention in denoiser.unet.cross_attentions()]
    assert widths == [320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320, 1280]


@pytest.mark.parametrize("odd_sizes", [True, False])
def test_allowed_sizes_are_those_that_come_back(odd_sizes: bool) -> None:
    config = DenoiserConfig(odd_sizes=odd_sizes)
    depth = len(config.multipliers) - 1
    with torch.device("meta"):
        down = torch.nn.ModuleList(Downsample(1, odd_sizes) for _ in range(depth))
        up = torch.nn.ModuleList(Upsample(1, odd_sizes) for _ in range(depth))
        for height in range(1, 35):
            for width in (7, 8, 12, 16):
                sizes = [torch.empty(1, 1, height, width)]
                for layer in down:
                    sizes.append(layer(sizes[-1]))
                comes_back = all(
                    layer(coarse).shape == fine.shape
                    for layer, fine, coarse in zip(up, sizes[:-1], sizes[1:], strict=True)
                )
                try:
                    check_latent_size(config, height, width)
                    allowed = True
                except UserError:
                    allowed = False
                assert allowed == comes_back, (height, width)


@pytest.mark.parametrize("odd_sizes", [True, False])
def test_the_fitting_size_is_the_least_that_is_allowed(odd_sizes: bool) -> None:
    config = DenoiserConfig(odd_sizes=odd_sizes)
    allowed = []
    for rows in range(1, 40):
        with contextlib.suppress(UserError):
            check_latent_size(config, rows, 8)
            allowed.append(rows)
    for height in range(1, 30):
        for width in (1, 8, 9, 90):
            rows, columns = fitting_latent_size(config, height, width)
            assert rows == min(r for r in allowed if r >= height)
            assert columns == 8 * -(-width // 8)
    if odd_sizes:
        assert fitting_latent_size(config, 90, 90) == (90, 96)  # 720 pixels padded to 720 x 768


def test_wrong_inputs_are_named() -> None:
    denoiser, batch = tiny(), inputs(frames=3, keys=2)
    with pytest.raises(ValueError, match="2 key frames of 3"):
        denoiser(**{**batch, "mask_cond": torch.ones(1, 3, dtype=torch.long)})
    with pytest.raises(UserError, match="latents of 7 x 7"):
        denoiser(**inputs(size=7))


def test_bfloat16_autocast_trains() -> None:
    denoiser, batch = tiny(), inputs(frames=2, keys=1)
    exact = denoiser(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = denoiser(**batch)
    rough.square().mean().backward()
    assert (rough - exact).std() < 0.1 * exact.std()
    assert all(torch.isfinite(p.grad).all() for p in denoiser.parameters())
