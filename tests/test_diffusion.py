"""Theorems about the schedule, the keyed noise and the solvers."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ipfvr.core.errors import UserError
from ipfvr.core.options import SamplerConfig, ScheduleConfig
from ipfvr.diffusion.noise import HINT_STEP, START_STEP, frame_noise
from ipfvr.diffusion.schedule import Schedule, interpolated_log_snr
from ipfvr.diffusion.solvers import DPMSolverPP2MSDE, Heun, Plan, Solver, make_solver

VECTORS = Path(__file__).parents[2] / "shared" / "parity" / "venhancer_small.safetensors"


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return Schedule(ScheduleConfig())


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Schedule


@pytest.mark.skipif(not VECTORS.is_file(), reason="../shared/parity is not beside this checkout")
def test_schedule_is_the_originals(schedule):
    with safe_open(VECTORS, framework="pt") as file:
        theirs = file.get_tensor("schedule.sigmas")
    assert (schedule.sigmas - theirs).abs().max() <= 1e-6


def test_schedule_ends(schedule):
    assert schedule.sigmas[-1] == 1
    assert schedule.alphas[-1] == 0
    assert (schedule.sigmas.diff() > 0).all()
    assert (schedule.alphas.diff() < 0).all()
    torch.testing.assert_close(schedule.sigmas**2 + schedule.alphas**2, torch.ones(1000))
    # Rescaling leaves the first step alone, and without it the last keeps some signal.
    plain = Schedule(ScheduleConfig(zero_terminal_snr=False))
    assert plain.sigmas[0] == schedule.sigmas[0]
    assert plain.alphas[-1] > 0


def test_log_snr_limits():
    curve = interpolated_log_snr(1001, 2.0, 4.0)
    assert curve[0].item() == pytest.approx(15 - 2 * math.log(2), abs=1e-6)
    assert curve[-1].item() == pytest.approx(-15 - 2 * math.log(4), abs=1e-6)
    # Without a shift the cosine curve is odd about its middle.
    unshifted = interpolated_log_snr(1001, 1.0, 1.0)
    torch.testing.assert_close(unshifted, -unshifted.flip(0))
    # With one shift for both ends the whole curve is lowered by 2 log s.
    torch.testing.assert_close(interpolated_log_snr(1001, 3.0, 3.0), unshifted - 2 * math.log(3))


def test_sigma_of_the_variance_exploding_view(schedule):
    assert schedule.sigma_ve(999) == math.inf
    assert math.isfinite(schedule.sigma_ve(998))
    for step in (0, 1, 499, 899):
        expected = (schedule.sigmas[step].double() / schedule.alphas[step].double()).item()
        assert schedule.sigma_ve(step) == pytest.approx(expected, rel=1e-5)
    geometric_mean = math.sqrt(schedule.sigma_ve(500) * schedule.sigma_ve(501))
    assert schedule.sigma_ve(500.5) == pytest.approx(geometric_mean, rel=1e-12)


@pytest.mark.parametrize("step", [0, 400, 999, torch.tensor([0, 437, 999])])
def test_latent_noise_and_velocity_round_trip(schedule, step):
    z, eps = gaussian(3, 4, 2, 5, 6, seed=1), gaussian(3, 4, 2, 5, 6, seed=2)
    z_t, v = schedule.add_noise(z, eps, step), schedule.velocity(z, eps, step)
    torch.testing.assert_close(schedule.denoised_from_v(z_t, v, step), z, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(schedule.noise_from_v(z_t, v, step), eps, atol=1e-6, rtol=1e-6)


def test_steps_of_a_batch_are_each_items_own(schedule):
    z, eps = gaussian(3, 4, 2, 5, 6, seed=1), gaussian(3, 4, 2, 5, 6, seed=2)
    together = schedule.add_noise(z, eps, torch.tensor([10, 500, 990]))
    for i, step in enumerate((10, 500, 990)):
        assert torch.equal(together[i : i + 1], schedule.add_noise(z[i : i + 1], eps[i : i + 1], step))


def test_velocity_is_the_derivative_of_eq_2_along_the_circle(schedule):
    # With alpha = cos a and sigma = sin a, d z_t / d a = cos(a) eps - sin(a) z = v.
    z, eps, step = gaussian(1, 4, 2, 3, 3), gaussian(1, 4, 2, 3, 3, seed=1), 300
    angle = math.atan(schedule.sigma_ve(step))
    h = 1e-5
    derivative = (
        (math.cos(angle + h) - math.cos(angle - h)) * z + (math.sin(angle + h) - math.sin(angle - h)) * eps
    ) / (2 * h)
    torch.testing.assert_close(schedule.velocity(z, eps, step), derivative, atol=1e-6, rtol=1e-6)


def test_loss_is_zero_at_the_velocity_alone(schedule):
    z, eps, step = gaussian(2, 4, 2, 5, 6, seed=1), gaussian(2, 4, 2, 5, 6, seed=2), torch.tensor([3, 600])
    v = schedule.velocity(z, eps, step)
    assert schedule.loss(v, z, eps, step) == 0
    assert schedule.loss(v + 0.5, z, eps, step).item() == pytest.approx(0.25)


@pytest.mark.parametrize("config", [ScheduleConfig(timesteps=1), ScheduleConfig(scale_min=0.0)])
def test_schedule_refuses_what_has_no_meaning(config):
    with pytest.raises(UserError, match="schedule"):
        Schedule(config)


# Noise


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_noise_does_not_depend_on_the_cut_or_the_order(correlation):
    whole = frame_noise((4, 5, 6), 7, range(100, 112), 3, correlation)
    parts = [frame_noise((4, 5, 6), 7, r, 3, correlation) for r in (range(100, 105), range(105, 112))]
    assert torch.equal(whole, torch.cat(parts, 1))
    assert torch.equal(whole.flip(1), frame_noise((4, 5, 6), 7, range(111, 99, -1), 3, correlation))
    assert torch.equal(whole[:, 4:5], frame_noise((4, 5, 6), 7, [104], 3, correlation))


def test_overlapping_clips_share_noise_as_in_eq_9():
    length, overlap = 24, 8
    first = frame_noise((4, 5, 6), 0, range(length), 0)
    second = frame_noise((4, 5, 6), 0, range(length - overlap, 2 * length - overlap), 0)
    assert torch.equal(second[:, :overlap], first[:, length - overlap :])


def test_each_part_of_the_key_matters():
    keys = [(seed, frame, step) for seed in (0, 1, -1) for frame in (0, 1, 2) for step in (HINT_STEP, START_STEP, 0, 1)]
    draws = torch.stack([frame_noise((4, 32, 32), seed, [frame], step).flatten() for seed, frame, step in keys])
    correlations = torch.corrcoef(draws) - torch.eye(len(keys))
    assert correlations.abs().max() < 5 / math.sqrt(draws.shape[1])


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.8])
def test_noise_is_unit_gaussian_and_correlated_as_asked(rho):
    noise = frame_noise((4, 64, 64), 5, range(6), 0, rho).double()
    assert noise.mean().abs() < 0.02 + 0.02 * rho
    assert noise.flatten(2).transpose(0, 1).flatten(1).var(1).sub(1).abs().max() < 0.06
    assert noise.pow(4).mean().item() == pytest.approx(3, abs=0.15)
    between = torch.corrcoef(noise.transpose(0, 1).flatten(1))
    assert (between[~torch.eye(6, dtype=torch.bool)] - rho).abs().max() < 0.05


def test_full_correlation_is_one_picture():
    noise = frame_noise((4, 5, 6), 5, range(6), 0, 1.0)
    assert torch.equal(noise, noise[:, :1].expand_as(noise))
    assert not torch.equal(noise, frame_noise((4, 5, 6), 5, range(6), 1, 1.0))


def test_noise_refuses_a_correlation_without_meaning():
    with pytest.raises(UserError, match="noise_correlation"):
        frame_noise((1, 2, 2), 0, [0], 0, 1.5)


# Solvers, on Gaussian data: z ~ N(MEAN, SPREAD^2), whose ideal denoiser and probability flow are known.

MEAN, SPREAD = 0.7, 0.5


def geometric_plan(steps: int, first: float = 20.0, last: float = 0.05, end: bool = False) -> Plan:
    ratio = (last / first) ** (1 / steps)
    sigmas = tuple(first * ratio**i for i in range(steps + 1))
    return Plan((*sigmas, 0.0) if end else sigmas, tuple(range(steps + 1)))


def ideal_denoiser(plan: Plan):
    def denoise(z_t: torch.Tensor, step: int) -> torch.Tensor:
        sigma = plan.sigmas[step]
        x = z_t * math.sqrt(1 + sigma**2)
        return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)

    return denoise


def no_noise(step: int) -> torch.Tensor:
    raise AssertionError("a deterministic solver asked for noise")


def flow(solver: Solver, steps: int) -> torch.Tensor:
    """x at the last level of a geometric plan, from x = 3 at the first."""
    plan = geometric_plan(steps)
    return solver.sample(
        plan, torch.tensor([[3.0]], dtype=torch.float64) / plan.sigmas[0], ideal_denoiser(plan), no_noise
    )


def exact_flow() -> float:
    first, last = 20.0, 0.05
    return MEAN + (3.0 - MEAN) * math.sqrt((SPREAD**2 + last**2) / (SPREAD**2 + first**2))


@pytest.mark.parametrize("solver", [DPMSolverPP2MSDE(eta=0.0), Heun()], ids=["dpmpp_2m", "heun"])
def test_solvers_converge_to_the_probability_flow_in_second_order(solver):
    errors = [abs(flow(solver, n).item() - exact_flow()) for n in (20, 40, 80)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert errors[-1] < 2e-3
    assert min(orders) > 1.7


def test_solvers_agree_in_the_limit():
    assert flow(Heun(), 400).item() == pytest.approx(flow(DPMSolverPP2MSDE(eta=0.0), 400).item(), abs=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_stochastic_solver_keeps_mean_and_variance(eta):
    plan, count = geometric_plan(60), 20_000
    start = MEAN / plan.sigmas[0] + math.sqrt(1 + (SPREAD / plan.sigmas[0]) ** 2) * gaussian(1, count)
    x = DPMSolverPP2MSDE(eta=eta).sample(plan, start, ideal_denoiser(plan), lambda i: gaussian(1, count, seed=i + 1))
    assert x.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert x.std().item() == pytest.approx(math.hypot(SPREAD, plan.sigmas[-1]), rel=0.03)


def test_stochastic_solver_forgets_its_start_the_deterministic_does_not():
    plan = geometric_plan(60)
    start = gaussian(1, 5000)

    def correlation(eta: float) -> float:
        solver = DPMSolverPP2MSDE(eta=eta)
        x = solver.sample(plan, start, ideal_denoiser(plan), lambda i: gaussian(1, 5000, seed=i + 1))
        return torch.corrcoef(torch.cat([start, x]))[0, 1].item()

    assert correlation(0.0) == pytest.approx(1)
    assert abs(correlation(1.0)) < 0.1


@pytest.mark.parametrize("solver", [DPMSolverPP2MSDE(eta=1.0, exact_start=True), Heun(exact_start=True)])
@pytest.mark.parametrize("start_step", [300, 899, 999])
def test_one_step_is_the_one_step_estimate(schedule, solver, start_step):
    z_t, v = gaussian(1, 4, 2, 3, 3), gaussian(1, 4, 2, 3, 3, seed=1)
    seen = []

    def denoise(z: torch.Tensor, step: int) -> torch.Tensor:
        seen.append((z, step))
        return schedule.denoised_from_v(z, v, step)

    out = solver.sample(solver.plan(schedule, 1, start_step), z_t, denoise, no_noise)
    assert [step for _, step in seen] == [start_step]
    torch.testing.assert_close(seen[0][0], z_t)
    torch.testing.assert_close(out, schedule.denoised_from_v(z_t, v, start_step))


def test_venhancers_start_is_smaller_by_sigma(schedule):
    z_t = gaussian(1, 4, 2, 3, 3)
    seen = []
    solver = Heun()
    solver.sample(solver.plan(schedule, 1, 499), z_t, lambda z, step: seen.append(z) or z, no_noise)
    torch.testing.assert_close(seen[0], z_t * schedule.sigmas[499].double())


@pytest.mark.parametrize("solver", [DPMSolverPP2MSDE(eta=0.0), DPMSolverPP2MSDE(eta=1.0), Heun()])
def test_pure_noise_of_gaussian_data_becomes_gaussian_data(schedule, solver):
    """From zero terminal SNR, where the view's sigma is infinite."""
    plan = solver.plan(schedule, 50, 999)
    assert plan.sigmas[0] == math.inf

    def denoise(z_t: torch.Tensor, step: int) -> torch.Tensor:
        alpha, sigma = schedule.alphas[step].item(), schedule.sigmas[step].item()
        return (SPREAD**2 * alpha * z_t + sigma**2 * MEAN) / (SPREAD**2 * alpha**2 + sigma**2)

    count = 20_000
    x = solver.sample(plan, gaussian(1, count), denoise, lambda i: gaussian(1, count, seed=i + 1))
    assert x.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert x.std().item() == pytest.approx(SPREAD, rel=0.06)


def test_stepping_is_sampling(schedule):
    solver = DPMSolverPP2MSDE(eta=1.0)
    plan, start = solver.plan(schedule, 5, 899), gaussian(1, 4, 2, 3, 3)

    def denoise(z: torch.Tensor, step: int) -> torch.Tensor:
        return torch.tanh(z) * (1 + step / 1000)

    def noise(i: int) -> torch.Tensor:
        return gaussian(1, 4, 2, 3, 3, seed=i)

    calls = []
    whole = solver.sample(plan, start, denoise, noise, progress=lambda done, total: calls.append((done, total)))
    state = solver.begin(plan, start)
    for i in range(len(plan)):
        state = solver.step(plan, state, i, denoise, noise)
    assert torch.equal(state.x, whole)
    assert calls == [(i, 5) for i in range(1, 6)]


@pytest.mark.parametrize("solver", [DPMSolverPP2MSDE(), Heun()])
def test_trailing_plans(schedule, solver):
    for steps in (1, 2, 8, 15, 299):
        plan = solver.plan(schedule, steps, 899, 600)
        assert len(plan) == len(plan.steps) == steps
        assert plan.steps[0] == 899
        assert plan.steps[-1] >= 600
        assert plan.sigmas[-1] == 0
        assert all(a > b for a, b in pairwise(plan.sigmas))
    assert Heun().plan(schedule, 6, 899).steps == (899, 749, 599, 449, 299, 149)
    assert DPMSolverPP2MSDE().plan(schedule, 8, 899).steps == (899, 799, 699, 599, 499, 399, 299, 199)


@pytest.mark.parametrize(
    ("steps", "start", "end"), [(0, 899, 0), (11, 9, 0), (5, 1000, 0), (5, 100, 100), (5, 100, -1)]
)
def test_plans_that_have_no_meaning(schedule, steps, start, end):
    with pytest.raises(UserError, match="sampler"):
        Heun().plan(schedule, steps, start, end)


def test_an_eta_without_meaning():
    with pytest.raises(UserError, match=r"sampler\.eta"):
        make_solver(SamplerConfig(eta=2.0))
