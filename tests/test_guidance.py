"""Theorems about the guiders (Eq. 11) and the streams they run (Eq. 12)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stubs import StubDenoiser
from torch import Tensor, nn

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import SamplerConfig, ScheduleConfig
from ipfvr.degradation.reference import degraded_reference
from ipfvr.diffusion.conditions import Branch, Conditions
from ipfvr.diffusion.guidance import (
    NEGATIVE_TEXT,
    NEGATIVE_VISUAL,
    POSITIVE,
    ClassifierFree,
    MultiStream,
    make_guider,
)
from ipfvr.diffusion.sampler import LatentClip, Sampler
from ipfvr.diffusion.schedule import Schedule
from ipfvr.diffusion.streams import Hint, Streams
from ipfvr.models.adapter import adapter_modules
from ipfvr.models.backbone import make_denoiser, make_image_prompt
from ipfvr.restoration.restorer import Restorer


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def three() -> dict[str, Tensor]:
    names = (POSITIVE, NEGATIVE_TEXT, NEGATIVE_VISUAL)
    return {name: gaussian(2, 4, 2, 3, 3, seed=seed) for seed, name in enumerate(names)}


# Classifier-free


def test_guidance_of_one_is_the_positive_branch_at_the_cost_of_one(three):
    guider = make_guider(SamplerConfig(guider="classifier_free", guidance=1.0, guidance_rescale=0.7))
    assert guider.branches(500) == (POSITIVE,)
    assert torch.equal(guider.combine({POSITIVE: three[POSITIVE]}), three[POSITIVE])
    # ... and what classifier-free guidance tends to.
    torch.testing.assert_close(ClassifierFree(1.0, 0.7).combine(three), three[POSITIVE])


def test_guidance_moves_away_from_the_negative_branch(three):
    guided = ClassifierFree(7.5).combine(three)
    torch.testing.assert_close(guided - three[POSITIVE], 6.5 * (three[POSITIVE] - three[NEGATIVE_TEXT]))


def test_rescale_restores_the_deviation_of_each_item(three):
    three[POSITIVE][1] *= 5
    full = ClassifierFree(7.5, 1.0).combine(three)
    torch.testing.assert_close(full.flatten(1).std(1), three[POSITIVE].flatten(1).std(1))
    # Linear in phi between none and all.
    none = ClassifierFree(7.5, 0.0).combine(three)
    torch.testing.assert_close(ClassifierFree(7.5, 0.2).combine(three), 0.2 * full + 0.8 * none)


# Multi-stream


def test_eq_11_by_hand():
    predictions = {
        POSITIVE: torch.full((1, 1, 1, 1, 1), 1.0),
        NEGATIVE_TEXT: torch.full((1, 1, 1, 1, 1), 3.0),
        NEGATIVE_VISUAL: torch.full((1, 1, 1, 1, 1), -2.0),
    }
    assert MultiStream(0.5, 0.25).combine(predictions).item() == 1.75 * 1 - 0.5 * 3 + 0.25 * 2
    assert MultiStream(0.5, 0.0).combine(predictions).item() == 1.5 * 1 - 0.5 * 3
    assert MultiStream(0.0, 0.25).combine(predictions).item() == 1.25 * 1 + 0.25 * 2
    # A stream that was not run counts as one of weight 0.
    del predictions[NEGATIVE_VISUAL]
    assert MultiStream(0.5, 0.25).combine(predictions).item() == 1.5 * 1 - 0.5 * 3


def test_streams_that_agree_change_nothing(three):
    same = dict.fromkeys(three, three[POSITIVE])
    torch.testing.assert_close(MultiStream(0.5, 0.8).combine(same), three[POSITIVE])


def test_without_a_visual_stream_it_is_classifier_free_guidance(three):
    torch.testing.assert_close(MultiStream(0.5, 0.0).combine(three), ClassifierFree(1.5).combine(three))


@pytest.mark.parametrize(
    ("weights", "branches"),
    [
        ((0.0, 0.0), (POSITIVE,)),
        ((0.5, 0.0), (POSITIVE, NEGATIVE_TEXT)),
        ((0.0, 0.5), (POSITIVE, NEGATIVE_VISUAL)),
        ((0.5, 0.5), (POSITIVE, NEGATIVE_VISUAL, NEGATIVE_TEXT)),
    ],
)
def test_a_stream_of_weight_zero_is_not_run(three, weights, branches):
    guider = make_guider(SamplerConfig(negative_text=weights[0], negative_visual=weights[1]))
    assert guider.branches(500) == branches
    if branches == (POSITIVE,):
        assert torch.equal(guider.combine({POSITIVE: three[POSITIVE]}), three[POSITIVE])


def test_outside_its_interval_the_positive_branch_is_alone(three):
    guider = make_guider(SamplerConfig(guidance_interval=[200, 700]))
    assert [len(guider.branches(step)) for step in (199, 200, 700, 701)] == [1, 3, 3, 1]
    assert torch.equal(guider.combine({POSITIVE: three[POSITIVE]}), three[POSITIVE])
    assert torch.equal(guider.combine(three), MultiStream().combine(three))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"guidance_rescale": 1.2}, "guidance_rescale"),
        ({"guidance_interval": [3]}, "guidance_interval"),
        ({"guidance_interval": [700, 200]}, "guidance_interval"),
    ],
)
def test_options_without_meaning(options, says):
    with pytest.raises(UserError, match=says):
        make_guider(SamplerConfig(**options))


# Streams


class Counter(StubDenoiser):
    """A denoiser that counts what it runs: clips in the batch of each call."""

    def __init__(self):
        self.begun, self.control_calls, self.calls, self.steps = [], [], [], []

    def begin(self, x, **others):
        self.begun.append(len(x))
        return super().begin(x=x, **others)

    def control(self, x, text, **others):
        self.control_calls.append(len(x))
        # Of each frame, as the ControlNet's; it depends on the text, so that a wrong one is seen.
        return [(x * 0.1 + text.mean((1, 2)).view(-1, 1, 1, 1, 1)).transpose(1, 2).flatten(0, 1)]

    def __call__(self, x, t, text, hint, t_hint, up_scale, mask_cond, image_tokens=None, control=None, stem=None):
        self.calls.append(len(x))
        self.steps.append(int(t[0]))
        added = control[0].unflatten(0, (len(x), -1)).transpose(1, 2)
        tokens = 0 if image_tokens is None else image_tokens.mean((1, 2)).view(-1, 1, 1, 1, 1)
        return 0.3 * x + 0.2 * added - 0.1 * text.mean((1, 2)).view(-1, 1, 1, 1, 1) + tokens


TEXT, NEGATIVE = torch.full((1, 3, 16), 0.1), torch.full((1, 3, 16), -0.2)
TOKENS, DEGRADED = torch.full((1, 2, 8), 0.3), torch.full((1, 2, 8), -0.4)
STEPS = 3


def run(denoiser=None, degraded: Tensor | None = DEGRADED, **options) -> tuple[Tensor, Counter]:
    denoiser = denoiser or Counter()
    sampler = Sampler(SamplerConfig(steps=STEPS, **options), Schedule(ScheduleConfig()))
    z_lq = gaussian(1, 4, 2, 4, 4, dtype=torch.float32)
    conditions = Conditions(TEXT, NEGATIVE, TOKENS, degraded)
    return sampler.restore_latent(denoiser, LatentClip(z_lq, range(2), 0, 2), conditions), denoiser


@pytest.mark.parametrize(
    ("options", "u_nets", "control_nets"),
    [
        ({"guider": "none"}, 1, 1),
        ({"guider": "classifier_free"}, 2, 2),
        ({}, 3, 2),
        ({"negative_text": 0.0}, 2, 1),
        ({"negative_visual": 0.0}, 2, 2),
        ({"negative_text": 0.0, "negative_visual": 0.0}, 1, 1),
    ],
)
def test_a_u_net_a_branch_and_a_control_net_a_text(options, u_nets, control_nets):
    _, one_by_one = run(**options)
    assert (one_by_one.calls, one_by_one.control_calls) == ([1] * u_nets * STEPS, [1] * control_nets * STEPS)
    _, together = run(batch_streams="always", **options)
    assert (together.calls, together.control_calls) == ([u_nets] * STEPS, [control_nets] * STEPS)
    assert one_by_one.begun == together.begun == [1] * STEPS


def test_weights_of_zero_are_no_guidance_exactly():
    without, _ = run(guider="none")
    assert torch.equal(run(negative_text=0.0, negative_visual=0.0)[0], without)
    assert not torch.allclose(run()[0], without, atol=1e-2)
    # Outside of every step of the plan there is nothing that guides.
    assert torch.equal(run(guidance_interval=[0, 1])[0], without)


def test_the_interval_is_of_the_schedules_steps():
    _, counter = run()
    _, some = run(guidance_interval=[0, 700])
    expected = [step for step in dict.fromkeys(counter.steps) for _ in range(3 if step <= 700 else 1)]
    assert some.steps == expected
    assert len(set(expected)) == STEPS


def test_without_a_degraded_reference_the_visual_stream_is_left_out():
    without, counter = run(degraded=None)
    assert counter.calls == [1] * 2 * STEPS
    assert torch.equal(without, run(negative_visual=0.0)[0])


def test_streams_in_one_call_are_streams_one_by_one():
    assert torch.allclose(run(batch_streams="always")[0], run(batch_streams="never")[0], atol=1e-5)
    config = load_config(None, ["preset=tiny"])
    torch.manual_seed(0)
    network = make_denoiser(config)
    make_image_prompt(config, network)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    z_t, tokens = gaussian(1, 4, 3, 8, 8, dtype=torch.float32), gaussian(2, 1, 3, 12, seed=1, dtype=torch.float32)
    text = gaussian(2, 1, 5, 16, seed=2, dtype=torch.float32)
    conditions = {
        POSITIVE: Branch(text[0], tokens[0]),
        NEGATIVE_VISUAL: Branch(text[0], tokens[1]),
        NEGATIVE_TEXT: Branch(text[1], tokens[0]),
    }
    hint = Hint(gaussian(1, 4, 3, 8, 8, seed=3, dtype=torch.float32), 0, 2, torch.zeros(1, 3, dtype=torch.long))
    for names in ([*conditions], [POSITIVE, NEGATIVE_VISUAL], [POSITIVE, NEGATIVE_TEXT]):
        branches = {name: conditions[name] for name in names}
        with torch.no_grad():
            one_by_one, together = (Streams(b).predict(network, z_t, 500, branches, hint) for b in ("never", "always"))
        assert [*one_by_one] == [*together] == names
        for name in names:
            assert torch.allclose(together[name], one_by_one[name], atol=1e-5)
        # Each branch is its own.
        assert all((one_by_one[name] - one_by_one[POSITIVE]).abs().max() > 1e-3 for name in names[1:])


class SmallMemory(Counter):
    """Has room for one clip alone."""

    def __call__(self, x, **inputs):
        if len(x) > 1:
            raise torch.OutOfMemoryError
        return super().__call__(x, **inputs)


def test_what_does_not_fit_in_one_call_goes_one_by_one_from_then_on(monkeypatch):
    assert [Streams("auto").together(torch.device(kind)) for kind in ("cpu", "cuda")] == [False, True]
    expected, _ = run()
    with pytest.raises(torch.OutOfMemoryError):
        run(SmallMemory(), batch_streams="always")
    monkeypatch.setattr(Streams, "together", lambda self, device: self.batching != "never")
    restored, counter = run(SmallMemory())
    assert torch.equal(restored, expected)
    # The first step's ControlNets ran once in vain.
    assert counter.control_calls == [2] + [1] * 2 * STEPS


# In a restoration


def test_the_degraded_reference_is_a_stream_of_its_own(tmp_path: Path) -> None:
    config = load_config(None, ["preset=tiny"])
    torch.manual_seed(0)
    denoiser = make_denoiser(config)
    prompt = make_image_prompt(config, denoiser)
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    file = tmp_path / "adapter.safetensors"
    save_file(adapter_modules(prompt, denoiser).state_dict(), file)
    rng = np.random.default_rng(0)
    low, people = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((2, 16, 16, 3), (2, 32, 32, 3)))

    def restored(*pairs: str, references: bool = True) -> tuple[np.ndarray, list[str], Conditions]:
        restorer = Restorer(load_config(None, ["preset=tiny", "sampler.guider=multi_stream", *pairs]))
        for parameter in restorer.networks.denoiser.parameters():
            if not parameter.any():
                nn.init.constant_(parameter, 0.05)
        conditions = restorer.conditions(people if references else ())
        return restorer.restore(low, conditions), restorer.left_out(conditions), conditions

    with_adapter = f"weights.adapter={file}"
    both, left_out, conditions = restored(with_adapter)
    assert left_out == []
    assert conditions.degraded_tokens.shape == conditions.image_tokens.shape
    assert (conditions.degraded_tokens - conditions.image_tokens).abs().max() > 1e-3
    text_alone, left_out, conditions = restored(with_adapter, "sampler.negative_visual=0")
    assert (left_out, conditions.degraded_tokens) == ([], None)
    assert not np.array_equal(both, text_alone)
    # Without an adapter, or without a reference, there is nothing to degrade, and it is said.
    for case in (restored(), restored(with_adapter, references=False)):
        assert len(case[1]) == 1
        assert "weights.adapter" in case[1][0]
    assert np.array_equal(restored()[0], restored("sampler.negative_visual=0")[0])


def test_a_reference_is_always_degraded_alike():
    config = load_config(None, ["preset=mini"])
    face = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    low = degraded_reference(face, config)
    assert low.shape == (1, 64, 64, 3)
    assert np.array_equal(low, degraded_reference(face, load_config(None, ["preset=mini", "seed=5"])))
