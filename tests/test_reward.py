"""Eq. 5 to 8, and the gradient in chunks against the naive one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import RewardConfig
from ipfvr.faces.align import face_template
from ipfvr.identity.reward import (
    FaceRewards,
    chunked_objective,
    clip_feedback,
    feedback_loss,
    identity_reward,
    normalise_reward,
    suffix_weighted_reward,
)
from ipfvr.metrics.identity import identity_drift
from ipfvr.models.vae import LatentCodec

FRAMES = 7


@pytest.fixture
def rewards() -> Tensor:
    torch.manual_seed(0)
    return (0.5 + 0.1 * torch.randn(FRAMES, dtype=torch.float64)).requires_grad_(True)


def test_eq5_is_the_cosine() -> None:
    x = torch.randn(3, 8)
    assert torch.allclose(identity_reward(2 * x, x), torch.ones(3))
    assert torch.allclose(identity_reward(x, -x[0])[0], torch.tensor(-1.0))
    assert abs(float(identity_reward(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0])))) < 1e-7


@pytest.mark.parametrize("statistics", ["detach", "literal"])
def test_eq6_has_mean_0_and_deviation_1_and_knows_no_scale(rewards: Tensor, statistics: str) -> None:
    a = normalise_reward(rewards, statistics, 1e-9)
    assert float(a.detach().mean()) == pytest.approx(0, abs=1e-12)
    assert float(a.detach().std(correction=0)) == pytest.approx(1)
    assert torch.allclose(normalise_reward(3 * rewards + 5, statistics, 1e-9), a)
    assert a.argmax() == rewards.argmax()
    assert a.argmin() == rewards.argmin()


@pytest.mark.parametrize("statistics", ["detach", "literal"])
@pytest.mark.parametrize("frames", [1, 4])
def test_equal_frames_have_no_advantage_and_a_finite_gradient(statistics: str, frames: int) -> None:
    r = torch.full((frames,), 0.3, requires_grad=True)
    a = normalise_reward(r, statistics, 0.01)
    assert a.tolist() == [0] * frames
    (gradient,) = torch.autograd.grad(a[-1], r)
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= 1 / 0.01 + 1e-4


def test_statistics_as_constants_scale_a_gradient_and_to_the_letter_cancel_it(rewards: Tensor) -> None:
    """With u = dL/dA and s^2 = var + eps^2: detached, dL/dr = u / s.

    To the letter dL/dr sums to 0 (Eq. 6 knows no shift), and along r - mean, where Eq. 6 knows no scale but for
    epsilon, it is <u, A> eps^2 / s^2.
    """
    epsilon, u = 0.05, torch.randn(FRAMES, dtype=torch.float64)
    spread = (rewards.var(correction=0) + epsilon**2).sqrt().detach()
    (detached,) = torch.autograd.grad(normalise_reward(rewards, "detach", epsilon) @ u, rewards)
    assert torch.allclose(detached, u / spread)
    a = normalise_reward(rewards, "literal", epsilon)
    (literal,) = torch.autograd.grad(a @ u, rewards)
    assert float(literal.sum()) == pytest.approx(0, abs=1e-12)
    along = (rewards - rewards.mean()).detach() @ literal
    assert float(along) == pytest.approx(float(a.detach() @ u * epsilon**2 / spread**2))
    assert detached.sum().abs() > 1e-3


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("frames", [1, FRAMES])
def test_eq7_is_its_sum(gamma: float, frames: int) -> None:
    a = torch.randn(frames, dtype=torch.float64)
    sums = [sum(gamma ** (k - f) * float(a[k]) for k in range(f, frames)) for f in range(frames)]
    assert suffix_weighted_reward(a, gamma).tolist() == pytest.approx(sums)
    if gamma == 0:
        assert torch.equal(suffix_weighted_reward(a, gamma), a)


def test_eq8_is_bounded_and_its_gradient_too() -> None:
    discounted = torch.tensor([-1.0, 0.0, 1.9, 2.1, 50.0], requires_grad=True)
    losses = [feedback_loss(discounted, f, 2.0) for f in range(5)]
    assert torch.stack(losses).tolist() == pytest.approx([1 - math.exp(min(r, 2.0)) for r in (-1, 0, 1.9, 2.1, 50)])
    (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), discounted)
    assert gradient.tolist() == pytest.approx([-math.exp(-1), -1, -math.exp(1.9), 0, 0])


@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_the_letter_of_the_equations_agrees_with_finite_differences(rewards: Tensor, gamma: float) -> None:
    def loss(r: Tensor) -> Tensor:
        return feedback_loss(suffix_weighted_reward(normalise_reward(r, "literal", 0.05), gamma), 2, 9.0)

    assert torch.autograd.gradcheck(loss, (rewards,))


def test_wrong_options_are_named(rewards: Tensor) -> None:
    with pytest.raises(UserError, match=r"reward\.epsilon is 0\.0"):
        normalise_reward(rewards, epsilon=0.0)
    with pytest.raises(UserError, match=r"reward\.gamma is 1\.5; it must lie between 0 and 1"):
        suffix_weighted_reward(rewards, 1.5)


class SmoothRecogniser(nn.Module):
    """Stands for a recogniser: a convolution and a pooling, smooth, of random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, 4)

    def embed(self, images: Tensor) -> Tensor:
        return functional.normalize(torch.tanh(self.conv(images)).flatten(2).var(-1), dim=1)


@pytest.fixture(scope="module")
def face_rewards() -> FaceRewards:
    torch.manual_seed(1)
    codec = LatentCodec(load_config(None, ["preset=tiny"]).vae)
    return FaceRewards(codec, SmoothRecogniser(), torch.rand(8)).double().eval().requires_grad_(False)


@pytest.fixture
def latents() -> Tensor:
    torch.manual_seed(2)
    return (0.3 * torch.randn(FRAMES, 4, 8, 8, dtype=torch.float64)).requires_grad_(True)


def landmarks() -> Tensor:
    torch.manual_seed(3)
    return torch.from_numpy(face_template(32)) + torch.rand(FRAMES, 5, 2)


@pytest.mark.parametrize("statistics", ["detach", "literal"])
@pytest.mark.parametrize("chunk", [1, 2, 3, FRAMES, 100])
@pytest.mark.parametrize("gamma", [0.0, 0.9])
@pytest.mark.parametrize("alone", [False, True])
def test_chunks_have_the_gradient_of_the_whole(
    face_rewards: FaceRewards, latents: Tensor, statistics: str, chunk: int, gamma: float, alone: bool
) -> None:
    config = RewardConfig(statistics=statistics, gamma=gamma, bound=9.0)
    r = face_rewards(latents, landmarks())
    discounted = suffix_weighted_reward(normalise_reward(r, statistics, config.epsilon), config.gamma)
    (naive,) = torch.autograd.grad(3 * feedback_loss(discounted, 1, config.bound), latents)
    found = clip_feedback(latents, face_rewards.of_clip(landmarks()), config, chunk, 1, alone)
    (chunked,) = torch.autograd.grad(3 * found.loss, latents)
    assert torch.allclose(found.rewards, r)
    assert torch.allclose(found.discounted, discounted)
    assert naive.norm() > 0
    assert (chunked - naive).norm() < 1e-10 * naive.norm()


def test_the_gradient_agrees_with_finite_differences(face_rewards: FaceRewards, latents: Tensor) -> None:
    """Of all r_f by the latents, through decoder, warp and recogniser, along a random direction."""
    weights, direction = torch.randn(FRAMES, dtype=torch.float64), torch.randn_like(latents)
    rewards = face_rewards.of_clip(landmarks())

    def objective(z: Tensor) -> Tensor:
        return chunked_objective(z, rewards, lambda r: r @ weights, 2)[0]

    (gradient,) = torch.autograd.grad(objective(latents), latents)
    step = 1e-5
    slope = (objective(latents + step * direction) - objective(latents - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope.detach()), rel=1e-5)


def test_frames_before_the_drawn_one_cost_no_graph(latents: Tensor) -> None:
    """Detached, Eq. 7 looks ahead only; with gamma 0 at one frame only; beyond the bound at none."""
    with_graph: list[int] = []

    def rewards(z: Tensor, first: int) -> Tensor:
        if torch.is_grad_enabled():
            with_graph.append(first)
        return z.tanh().mean((1, 2, 3))

    clip_feedback(latents, rewards, RewardConfig(bound=99.0), 1, frame=3)
    assert with_graph == [3, 4, 5, 6]
    with_graph.clear()
    clip_feedback(latents, rewards, RewardConfig(gamma=0.0, bound=99.0), 1, frame=3)
    assert with_graph == [3]
    with_graph.clear()
    loss = clip_feedback(latents, rewards, RewardConfig(bound=-99.0), 1, frame=3).loss
    assert not with_graph
    assert torch.equal(torch.autograd.grad(loss, latents)[0], torch.zeros_like(latents))


def test_frames_that_stand_alone_are_run_once(latents: Tensor) -> None:
    """With a graph where Eq. 8 reaches, without one elsewhere; a frame never twice."""
    runs: dict[int, list[bool]] = {}

    def rewards(z: Tensor, first: int) -> Tensor:
        runs.setdefault(first, []).append(torch.is_grad_enabled())
        return z.tanh().mean((1, 2, 3))

    clip_feedback(latents, rewards, RewardConfig(bound=99.0), 1, 3, alone=True)
    assert runs == {frame: [frame >= 3] for frame in range(FRAMES)}
    runs.clear()
    clip_feedback(latents, rewards, RewardConfig(bound=99.0, statistics="literal"), 1, 3, alone=True)
    assert runs == {frame: [True] for frame in range(FRAMES)}


def test_drift_is_what_is_lost_from_the_first_third_to_the_last() -> None:
    assert float(identity_drift(torch.tensor([0.9, 0.9, 0.5, 0.1, 0.3, 0.3]))) == pytest.approx(0.6)
    assert float(identity_drift(torch.full((24,), 0.7))) == 0
    assert float(identity_drift(torch.tensor([0.4]))) == 0
