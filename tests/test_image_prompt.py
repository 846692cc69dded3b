"""Image tokens and decoupled cross-attention (Eq. 4): parity, limits, and the way through a restoration."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from safetensors.torch import load_file, save_file
from stubs import stub_recogniser
from torch import Tensor, nn

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config, ImagePromptConfig
from ipfvr.faces.recognise import Recogniser
from ipfvr.models.adapter import adapter_header, adapter_modules, load_adapter, load_adapter_weights
from ipfvr.models.attention import ImagePromptProcessor, TextAndImage, scale_schedule
from ipfvr.models.backbone import make_denoiser, make_image_encoder, make_image_prompt
from ipfvr.models.image_prompt import SOURCES, ImagePrompt, Resampler
from ipfvr.models.unet import VideoDenoiser
from ipfvr.restoration.restorer import Restorer
from ipfvr.weights.needs import image_prompt_parts

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "parity"
needs_vectors = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/parity is not beside this checkout")


def tiny(*overrides: str) -> Config:
    return load_config(None, ["preset=tiny", *overrides])


def with_prompt(config: Config) -> tuple[ImagePrompt, VideoDenoiser]:
    """Prompt and denoiser in which every weight counts, zero-initialised ones too."""
    torch.manual_seed(0)
    denoiser = make_denoiser(config)
    prompt = make_image_prompt(config, denoiser)
    assert prompt is not None
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return prompt, denoiser


def faces(*shape: int) -> Tensor:
    return torch.rand(*shape, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1


def call(denoiser: VideoDenoiser, tokens: Tensor | None, step: int = 500) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    x, hint = torch.randn(2, 1, 4, 2, 8, 8, generator=rng)
    text, number = torch.randn(1, 5, 16, generator=rng), torch.tensor([1])
    return denoiser(x, number * step, text, hint, number * 0, number * 2, torch.zeros(1, 2), image_tokens=tokens)


@pytest.fixture
def recogniser(tmp_path: Path) -> Recogniser:
    return stub_recogniser(tmp_path)


@needs_vectors
@torch.no_grad()
def test_resampler_has_plus_faces_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    weights = importlib.import_module("parity_weights").parity_weights
    vectors = load_file(SHARED / "identity.safetensors")
    resampler = Resampler(1280, load_config(None, ["preset=full"]).image_prompt)
    made = weights({f"image_proj.{name}": value.shape for name, value in resampler.state_dict().items()})
    resampler.load_state_dict({name.removeprefix("image_proj."): value for name, value in made.items()})
    out = resampler(vectors["resampler.in"])
    assert (out - vectors["resampler.out"]).abs().max() < 1e-5


@needs_vectors
@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("ip-adapter-plus-face_sd15", []),
        ("ip-adapter_sd15", ["image_prompt.projection=linear", "image_prompt.tokens=4"]),
    ],
)
def test_every_key_of_a_published_adapter_has_its_place(file: str, options: list[str]) -> None:
    shapes = json.loads((SHARED / "identity_keys.json").read_text())[file]
    config = load_config(None, ["preset=full", *options, *(f"weights.{w}=" for w in ("image", "denoiser", "adapter"))])
    with torch.device("meta"):
        prompt, denoiser = None, make_denoiser(config)
        prompt = make_image_prompt(config, denoiser)
        weights = {name: torch.empty(shape) for name, shape in shapes.items()}
    load_adapter_weights(prompt, denoiser, weights)
    taken = adapter_modules(prompt, denoiser).state_dict()
    assert set(taken) == set(weights)
    assert len(weights) == len(shapes) > 30
    middle = denoiser.unet.middle[0].spatial.block.attn2.processor
    assert middle.to_k_ip.weight.shape == weights["ip_adapter.31.to_k_ip.weight"].shape == (1280, 768)
    first = denoiser.unet.down[0].spatial.block.attn2.processor
    assert first.to_v_ip.weight.shape == weights["ip_adapter.1.to_v_ip.weight"].shape == (320, 768)
    for change, says in (
        ({"image_proj.extra": torch.empty(1)}, "left over.*image_proj.extra"),
        ({"ip_adapter.31.to_k_ip.weight": torch.empty(1280, 767)}, "another shape.*ip_adapter.31"),
    ):
        with pytest.raises(UserError, match=says):
            load_adapter_weights(prompt, denoiser, weights | change)
    del weights["ip_adapter.7.to_v_ip.weight"]
    with pytest.raises(UserError, match=r"1 missing.*ip_adapter\.7\.to_v_ip"):
        load_adapter_weights(prompt, denoiser, weights)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 0.35])
def test_eq_4_is_diffusers_own(scale: float) -> None:
    torch.manual_seed(0)
    attention = Attention(query_dim=24, cross_attention_dim=10, heads=3, dim_head=8)
    ours, theirs = ImagePromptProcessor(attention, 6), IPAdapterAttnProcessor2_0(24, 6, num_tokens=(4,), scale=scale)
    nn.init.normal_(ours.to_v_ip.weight)
    ours.scale = scale
    theirs.to_k_ip[0].load_state_dict(ours.to_k_ip.state_dict())
    theirs.to_v_ip[0].load_state_dict(ours.to_v_ip.state_dict())
    z, text, image = torch.randn(2, 7, 24), torch.randn(2, 5, 10), torch.randn(2, 4, 6)
    expected = theirs(attention, z, (text, [image]))
    assert torch.allclose(ours(attention, z, TextAndImage(text, image)), expected, atol=1e-6)
    assert (ours(attention, z, TextAndImage(text)) - expected).abs().max() > 1e-2


@torch.no_grad()
def test_lambda_is_linear_and_zero_is_the_base() -> None:
    """In one attention Z' - Z is proportional to lambda, whether it comes as a number or as a share of the step."""
    torch.manual_seed(0)
    attention = Attention(query_dim=24, cross_attention_dim=10, heads=3, dim_head=8, out_bias=False)
    processor = ImagePromptProcessor(attention, 6)
    nn.init.normal_(processor.to_v_ip.weight)
    z, text, image = torch.randn(2, 7, 24), torch.randn(2, 5, 10), torch.randn(2, 4, 6)
    base, whole = (processor(attention, z, TextAndImage(text, i)) for i in (None, image))
    processor.scale = 0.25
    quarter = processor(attention, z, TextAndImage(text, image))
    assert torch.allclose(quarter - base, 0.25 * (whole - base), atol=1e-6)
    processor.scale = 0.5
    shares = processor(attention, z, TextAndImage(text, image, torch.tensor([0.5, 0.0])[:, None, None]))
    assert torch.allclose(shares[0], quarter[0], atol=1e-6)
    assert torch.allclose(shares[1], base[1], atol=1e-6)


@torch.no_grad()
def test_lambda_for_each_block_and_each_step() -> None:
    prompt, denoiser = with_prompt(tiny("image_prompt.step_scales=[1,0.5,0]", "image_prompt.scale=2"))
    tokens, count = prompt(faces(1)), len(denoiser.unet.cross_attentions())
    base, step_0, middle = (call(denoiser, t, s) for t, s in ((None, 899), (tokens, 0), (tokens, 450)))
    assert (call(denoiser, tokens, 899) - base).abs().max() > 1e-3
    assert torch.allclose(step_0, call(denoiser, None, 0), atol=1e-6)
    denoiser.set_image_scale(2 * scale_schedule([1, 0.5, 0], 899, 0, 1000)[450].item())
    assert torch.allclose(call(denoiser, tokens, 450), middle, atol=1e-5)
    denoiser.set_image_scale([0.0] * count)
    assert torch.equal(call(denoiser, tokens, 899), base)
    moved = []
    for block in range(count):
        denoiser.set_image_scale([float(block == i) for i in range(count)])
        moved.append((call(denoiser, tokens, 899) - base).abs().max().item())
    assert min(moved) > 1e-5
    assert len({round(m, 8) for m in moved}) == count
    for bad in ([1.0] * (count + 1), [1.0]):
        with pytest.raises(UserError, match=f"{count} cross-attentions"):
            denoiser.set_image_scale(bad)


def test_a_schedule_runs_from_the_first_step_to_the_last() -> None:
    table = scale_schedule([1.0, 0.5, 0.0], 800, 0, 1000)
    assert table[[0, 200, 400, 800, 999]].tolist() == pytest.approx([0, 0.25, 0.5, 1, 1])
    assert scale_schedule([0.3], 899, 0, 1000).tolist() == pytest.approx([0.3] * 1000)


@torch.no_grad()
def test_several_references() -> None:
    """Twice the same picture is that picture once, the order does not matter, the mean is of the tokens."""
    prompt, denoiser = with_prompt(tiny())
    people = faces(2)
    one, two = prompt(people[:1]), prompt(people)
    assert one.shape == (1, 3, 12)
    assert two.shape == (1, 6, 12)
    assert torch.allclose(call(denoiser, prompt(people[[0, 0]])), call(denoiser, one), atol=1e-5)
    assert torch.allclose(call(denoiser, prompt(people.flip(0))), call(denoiser, two), atol=1e-5)
    assert (call(denoiser, two) - call(denoiser, one)).abs().max() > 1e-3
    mean, _ = with_prompt(tiny("image_prompt.references=mean"))
    assert torch.allclose(mean(people), (one + prompt(people[1:])) / 2, atol=1e-6)


@torch.no_grad()
def test_a_batch_is_its_people_one_by_one(recogniser: Recogniser) -> None:
    config = tiny()
    torch.manual_seed(0)
    for source in ("clip", "recogniser", "both"):
        for projection in ("linear", "resampler", "patches"):
            section = ImagePromptConfig(source=source, projection=projection, tokens=3, width=12, heads=2, head_dim=6)
            with_clip, with_recogniser = source != "recogniser", source != "clip"
            prompt = ImagePrompt(
                section, make_image_encoder(config) if with_clip else None, recogniser if with_recogniser else None
            )
            batch = prompt(faces(2, 2))
            patches = 1 + (config.image.size // config.image.patch_size) ** 2
            states = {"linear": 3, "resampler": 3, "patches": patches}[projection]
            beside = 0 if projection == "linear" else 4
            expected = {"clip": states, "recogniser": beside or 3, "both": states + beside}[source]
            assert prompt.count == expected
            assert batch.shape == (2, 2 * expected, 12)
            assert torch.allclose(batch, torch.cat([prompt(person) for person in faces(2, 2)]), atol=1e-5)
            assert (batch[0] - batch[1]).abs().max() > 1e-3
            assert torch.equal(prompt.nobody(), prompt.tokens([0 * f for f in prompt.features(faces(1))], 1))
            # Each source is read: without it the tokens are others.
            features = prompt.features(faces(1))
            assert len(features) == with_clip + with_recogniser
            for i in range(len(features)):
                less = [f * (i != j) for j, f in enumerate(features)]
                assert (prompt.tokens(less, 1) - prompt.tokens(features, 1)).abs().max() > 1e-4


def test_training_reaches_every_weight_but_the_encoders(recogniser: Recogniser) -> None:
    config = tiny("image_prompt.source=both", "image_prompt.face_tokens=2")
    torch.manual_seed(0)
    prompt = ImagePrompt(config.image_prompt, make_image_encoder(config), recogniser)
    denoiser = make_denoiser(config)
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter, std=0.2)
    denoiser.add_image_prompt(config.image_prompt.width)
    modules = adapter_modules(prompt, denoiser).requires_grad_(True)
    for name, parameter in modules.named_parameters():
        if name.endswith("to_v_ip.weight"):
            nn.init.normal_(parameter, std=0.2)
    call(denoiser, prompt(faces(1))).square().sum().backward()
    # The last feed-forward's first norm and the like are all in the way of the gradient; no weight is idle.
    assert all(p.grad is not None and p.grad.any() for p in modules.parameters())
    others = [p for n, p in denoiser.named_parameters() if ".processor." not in n]
    assert all(p.grad is None for p in others)
    assert all(p.grad is None for encoder in (prompt.image, prompt.recogniser) for p in encoder.parameters())


def test_an_encoder_learns_and_comes_back_where_it_is_told_to(tmp_path: Path) -> None:
    """With the gradient of the whole; frozen, its weights are in no file and have none."""
    pairs = ("image_prompt.projection=patches", "image_prompt.train_encoder=true")
    prompt, denoiser = with_prompt(tiny(*pairs))
    modules = adapter_modules(prompt, denoiser).requires_grad_(True)
    call(denoiser, prompt(faces(1))).square().mean().backward()
    learning = {n for n, p in modules.named_parameters() if p.grad is not None and p.grad.any()}
    assert "image_encoder.vision_model.embeddings.patch_embedding.weight" in learning
    file = tmp_path / "adapter.safetensors"
    save_file({k: v.contiguous() for k, v in modules.state_dict().items()}, file, metadata=adapter_header(prompt))
    torch.manual_seed(9)
    other, other_denoiser = with_prompt(tiny(*pairs, f"weights.adapter={file}"))
    assert torch.equal(other(faces(1)), prompt(faces(1)))
    frozen, _ = with_prompt(tiny("image_prompt.projection=patches"))
    assert not frozen.features(faces(1))[0].requires_grad
    assert not any(name.startswith("image_encoder") for name in adapter_modules(frozen, other_denoiser).state_dict())
    with pytest.raises(UserError, match=r"image_prompt\.train_encoder"):
        load_adapter(frozen, other_denoiser, file)


def test_our_file_comes_back_and_says_what_it_is_for(tmp_path: Path, recogniser: Recogniser) -> None:
    config, file = tiny(), tmp_path / "adapter.safetensors"
    prompt, denoiser = with_prompt(config)
    save_file(adapter_modules(prompt, denoiser).state_dict(), file, metadata=adapter_header(prompt))
    with torch.no_grad():
        expected = call(denoiser, prompt(faces(1)))
    torch.manual_seed(0)
    again = make_denoiser(config)
    again.load_state_dict({k: v for k, v in denoiser.state_dict().items() if ".processor." not in k})
    loaded = make_image_prompt(tiny(f"weights.adapter={file}"), again)
    loaded.image.load_state_dict(prompt.image.state_dict())
    with torch.no_grad():
        assert torch.equal(call(again, loaded(faces(1))), expected)

    # The same shapes with other heads would give other numbers without a word.
    for pair, says in (("image_prompt.heads=4", "heads|head_dim"), ("image_prompt.tokens=5", "tokens")):
        more = ["image_prompt.head_dim=3"] if "heads" in pair else []
        with pytest.raises(UserError, match=f"image_prompt.({says})"):
            make_image_prompt(tiny(f"weights.adapter={file}", pair, *more), make_denoiser(config))
    make_image_prompt(tiny(f"weights.adapter={file}", "image_prompt.scale=0.5"), make_denoiser(config))

    both = ImagePrompt(tiny("image_prompt.source=both").image_prompt, prompt.image, recogniser)
    save_file(adapter_modules(both, denoiser).state_dict(), file, metadata=adapter_header(both))
    load_adapter(both, denoiser, file)
    recogniser.sha256 = "0" * 64
    with pytest.raises(UserError, match=r"weights\.face_encoder"):
        load_adapter(both, denoiser, file)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["image_prompt.source=both"], "weights.face_encoder"),
        (["image_prompt.block_scales=[1,2]"], "cross-attentions"),
        (["weights.adapter=nothing.safetensors"], "nothing.safetensors"),
    ],
)
def test_what_a_user_can_get_wrong(pairs: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        make_image_prompt(tiny(*pairs), make_denoiser(tiny()))


def test_a_file_that_is_no_adapter(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(b"not weights")
    with pytest.raises(UserError, match="is not a file of weights"):
        make_image_prompt(tiny(f"weights.adapter={file}"), make_denoiser(tiny()))
    for pair in ("image_prompt.scale=much", "image_prompt.step_scales=[a]", "image_prompt.step_scales=1"):
        with pytest.raises(UserError, match=r"image_prompt\.s"):
            tiny(pair)


def test_a_restoration_sees_the_reference_where_there_is_an_adapter(tmp_path: Path) -> None:
    prompt, denoiser = with_prompt(tiny())
    file = tmp_path / "adapter.safetensors"
    save_file(adapter_modules(prompt, denoiser).state_dict(), file)
    low = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    people = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)

    def restored(*pairs: str, references: np.ndarray | None = None) -> np.ndarray:
        restorer = Restorer(tiny(*pairs))
        for parameter in restorer.networks.denoiser.parameters():
            if not parameter.any():
                nn.init.constant_(parameter, 0.05)
        conditions = restorer.conditions(() if references is None else references)
        if references is not None:
            assert conditions.references == (len(references) if pairs else 0)
            tokens = conditions.image_tokens
            assert tokens is None if not pairs else tokens.shape == (1, 3 * len(references), 12)
            assert ("adapter" in restorer.networks.files) == bool(pairs)
        return restorer.restore(low, conditions)

    without = restored()
    assert np.array_equal(restored(references=people), without)
    assert np.array_equal(restored(f"weights.adapter={file}"), without)
    assert not np.array_equal(restored(f"weights.adapter={file}", references=people), without)
    nobody = restored(f"weights.adapter={file}", "image_prompt.without=nobody")
    assert not np.array_equal(nobody, without)
    assert not np.array_equal(nobody, restored(f"weights.adapter={file}", references=people))


@pytest.mark.parametrize("source", [*SOURCES])
def test_the_weights_that_are_asked_for_are_those_that_the_source_reads(source: str) -> None:
    parts = image_prompt_parts(tiny(f"image_prompt.source={source}", "weights.adapter=a.safetensors"))
    look, recogniser = SOURCES[source]
    assert parts[0] == "adapter"
    assert ("face_encoder" in parts) == recogniser
    assert ("image" in parts) == (look and source != "appearance")  # whose look is the codec's latents
    assert image_prompt_parts(tiny(f"image_prompt.source={source}", "weights.adapter=")) == ()
