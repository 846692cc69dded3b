"""Theorems about the sampler."""

from __future__ import annotations

import pytest
import torch
from stubs import StubDenoiser

from ipfvr.core.errors import UserError
from ipfvr.core.options import DenoiserConfig, SamplerConfig, ScheduleConfig
from ipfvr.diffusion.conditions import Conditions
from ipfvr.diffusion.guidance import ClassifierFree
from ipfvr.diffusion.noise import HINT_STEP, START_STEP, frame_noise
from ipfvr.diffusion.sampler import LatentClip, LatentTarget, Sampler
from ipfvr.diffusion.schedule import Schedule
from ipfvr.models.unet import build_denoiser


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return Schedule(ScheduleConfig())


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Sampler


class Recorder(StubDenoiser):
    """A denoiser that works on each frame alone and keeps what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, text, hint, t_hint, up_scale, mask_cond, image_tokens=None, control=None, stem=None):
        self.calls.append(
            {"x": x, "t": t, "text": text, "hint": hint, "t_hint": t_hint, "up_scale": up_scale, "mask": mask_cond}
        )
        return 0.3 * x.flip(1) - 0.5 * hint.mean(1, keepdim=True) + text.mean() + 0.001 * t.view(-1, 1, 1, 1, 1)


class Oracle(StubDenoiser):
    """Knows the clean x: v = (alpha z_t - x) / sigma."""

    def __init__(self, x: torch.Tensor, schedule: Schedule):
        self.x, self.schedule = x, schedule

    def __call__(self, x, t, image_tokens=None, control=None, stem=None, **others):
        alpha, sigma = self.schedule.alphas[t].double(), self.schedule.sigmas[t].double()
        return (alpha * x - self.x) / sigma


TEXT, NEGATIVE_TEXT = torch.full((1, 3, 16), 0.1), torch.full((1, 3, 16), -0.2)
WORDS, ONE_TEXT = Conditions(TEXT, NEGATIVE_TEXT), Conditions(TEXT)


@pytest.mark.parametrize("solver", ["dpmpp_2m_sde", "heun"])
def test_restoring_does_not_depend_on_the_cut(schedule, solver):
    """With a network that looks at each frame alone, two halves of a clip are the clip."""
    sampler = Sampler(SamplerConfig(solver=solver, steps=4, noise_correlation=0.2, residual_scale=0.5), schedule)
    z_lq = gaussian(1, 4, 6, 4, 4).float()

    def restore(start: int, stop: int) -> torch.Tensor:
        clip = z_lq[:, :, start:stop]
        return sampler.restore_latent(Recorder(), LatentClip(clip, range(50 + start, 50 + stop), 3, 2), WORDS)

    # Guidance rescale looks at the whole clip; it is the one thing that ties frames together here.
    sampler.guider = ClassifierFree(3.0)
    torch.testing.assert_close(restore(0, 6), torch.cat([restore(0, 1), restore(1, 6)], 2))


@pytest.mark.parametrize("residual_scale", [0.0, 0.4])
@pytest.mark.parametrize(("solver", "steps", "start"), [("heun", 5, 999), ("dpmpp_2m_sde", 5, 899), ("heun", 1, 499)])
def test_a_perfect_denoiser_restores_perfectly(schedule, residual_scale, solver, steps, start):
    config = SamplerConfig(solver=solver, steps=steps, start_step=start, guider="none", residual_scale=residual_scale)
    z_lq, z_hq = gaussian(1, 4, 3, 4, 4), gaussian(1, 4, 3, 4, 4, seed=1)
    oracle = Oracle(LatentTarget(residual_scale).encode(z_hq, z_lq), schedule)
    clip = LatentClip(z_lq, range(3), 0, 2)
    restored = Sampler(config, schedule).restore_latent(oracle, clip, Conditions(TEXT.double()))
    torch.testing.assert_close(restored, z_hq, atol=1e-4, rtol=1e-4)


def test_latent_target_round_trip():
    z_hq, z_lq = gaussian(1, 4, 3, 4, 4), gaussian(1, 4, 3, 4, 4, seed=1)
    for target in (LatentTarget(), LatentTarget(0.3)):
        torch.testing.assert_close(target.decode(target.encode(z_hq, z_lq), z_lq), z_hq)
    assert torch.equal(LatentTarget().guess(z_lq), z_lq)
    assert torch.equal(LatentTarget(0.3).guess(z_lq), torch.zeros_like(z_lq))
    with pytest.raises(UserError, match="residual_scale"):
        LatentTarget(-1.0)


@pytest.mark.parametrize("hint_step", [-1, 0, 199])
def test_what_the_network_is_shown(schedule, hint_step):
    z_lq, frames, seed = gaussian(1, 4, 5, 4, 4).float(), [10, 11, 12, 13, 14], 9
    mask = torch.tensor([[0, 1, 1, 0, 1]])
    recorder = Recorder()
    config = SamplerConfig(solver="heun", steps=2, hint_step=hint_step, exact_start=True)
    clip = LatentClip(z_lq, frames, seed, 4, mask)
    with pytest.raises(RuntimeError):  # two hints cannot be added to five frames: the recorder is no ControlNet
        Sampler(config, schedule).restore_latent(recorder, clip, WORDS)
    call = recorder.calls[0]
    keys = z_lq[:, :, [0, 3]]
    if hint_step >= 0:
        keys = schedule.add_noise(keys, frame_noise((4, 4, 4), seed, [10, 13], HINT_STEP)[None], hint_step)
    torch.testing.assert_close(call["hint"], keys)
    start = schedule.add_noise(z_lq, frame_noise((4, 4, 4), seed, frames, START_STEP)[None], 899)
    torch.testing.assert_close(call["x"], start)
    assert call["t_hint"].tolist() == [max(hint_step, 0)]
    assert (call["t"].tolist(), call["up_scale"].tolist()) == ([899], [4])
    assert torch.equal(call["mask"], mask)


def test_the_branches_have_their_own_text(schedule):
    z_lq = gaussian(1, 4, 2, 4, 4).float()
    for guider, texts in (("classifier_free", [TEXT, NEGATIVE_TEXT]), ("none", [TEXT])):
        recorder = Recorder()
        config = SamplerConfig(steps=3, guider=guider)
        Sampler(config, schedule).restore_latent(recorder, LatentClip(z_lq, range(2), 0, 2), WORDS)
        assert [call["text"] for call in recorder.calls] == texts * 3


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = DenoiserConfig(
        width=16,
        multipliers=[1, 2],
        res_blocks=1,
        attention_levels=[0],
        head_dim=8,
        input_heads=2,
        text_width=16,
        norm_groups=8,
        odd_sizes=False,
    )
    denoiser = build_denoiser(config).eval()
    with torch.no_grad():  # layers that begin at zero would hide the others
        for weight in denoiser.parameters():
            weight.copy_(torch.randn_like(weight) * (0.1 if weight.ndim == 1 else weight[0].numel() ** -0.5))
    return denoiser


def test_a_run_is_a_function_of_its_seed(schedule, network):
    sampler = Sampler(SamplerConfig(steps=3), schedule)
    z_lq = gaussian(1, 4, 3, 8, 8).float()

    def restore(seed: int, first: int = 0) -> torch.Tensor:
        return sampler.restore_latent(network, LatentClip(z_lq, range(first, first + 3), seed, 2), WORDS)

    restored = restore(0)
    assert restored.shape == z_lq.shape
    assert restored.isfinite().all()
    torch.manual_seed(123)  # the global generator is not asked
    assert torch.equal(restored, restore(0))
    assert not torch.allclose(restored, restore(1), atol=1e-2)
    assert not torch.allclose(restored, restore(0, first=1), atol=1e-2)


def test_a_clip_can_be_run_step_by_step(schedule, network):
    sampler = Sampler(SamplerConfig(steps=3, guider="none", residual_scale=0.5), schedule)
    z_lq = gaussian(1, 4, 1, 8, 8).float()
    clip = LatentClip(z_lq, [7], 0, 2)
    run = sampler.begin(network, clip, ONE_TEXT)
    for i in range(len(run)):
        run.step(i)
    calls = []
    whole = sampler.restore_latent(network, clip, ONE_TEXT, progress=lambda done, total: calls.append((done, total)))
    assert torch.equal(run.result(), whole)
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_what_does_not_fit_together(schedule, network):
    sampler = Sampler(SamplerConfig(steps=2), schedule)
    z_lq = gaussian(1, 4, 3, 8, 8).float()
    with pytest.raises(ValueError, match="latent"):
        LatentClip(z_lq, range(2), 0, 2)
    with pytest.raises(ValueError, match="mask_cond"):
        LatentClip(z_lq, range(3), 0, 2, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="negative_text"):
        sampler.restore_latent(network, LatentClip(z_lq, range(3), 0, 2), ONE_TEXT)
    with pytest.raises(UserError, match="hint_step"):
        Sampler(SamplerConfig(hint_step=1000), schedule)
