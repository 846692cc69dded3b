"""Solvers of the denoising equation, one step at a time.

They work in the variance-exploding view x = z_t / alpha_t = z + sigma_ve eps with sigma_ve = sigma / sqrt(1 - sigma^2),
where the equation is dx/dsigma = (x - D(x, sigma)) / sigma (Karras et al. 2022). They call
``denoise(z_t, step)``, which takes the latent that the network sees, z_t = x / sqrt(1 + sigma_ve^2), and returns the
estimate of z_0.

``solver.sample`` runs all steps. A caller that needs the latents in between, to record or blend them, runs this loop::

    plan = solver.plan(schedule, steps, start_step, end_step)
    state = solver.begin(plan, z_start)
    for i in range(len(plan)):
        state = solver.step(plan, state, i, denoise, noise)
    z = state.x
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ipfvr.core.choices import Solvers
from ipfvr.core.errors import UserError
from ipfvr.core.options import SamplerConfig
from ipfvr.diffusion.schedule import Schedule

Denoise = Callable[[Tensor, int], Tensor]  # (z_t, the schedule's step) -> z_0
Noise = Callable[[int], Tensor]  # solver step -> unit Gaussian noise, shaped like the latent


@dataclass(frozen=True)
class Plan:
    """The noise levels of a solver.

    Attributes:
        sigmas: n + 1 falling levels of the variance-exploding view; the first may be infinite, and the last is 0.
        steps: n steps of the schedule: the network's time at each level but the last.
    """

    sigmas: tuple[float, ...]
    steps: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sigmas) - 1


@dataclass(frozen=True)
class State:
    """The state of a solver.

    Attributes:
        x: the latent, like z, in the variance-exploding view at the current level; z_t itself (pure noise) at an
            infinite level; the result after the last step.
        denoised: the z_0 estimate of the step before; None before the first step.
    """

    x: Tensor
    denoised: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """A strategy for the step from one noise level to the next.

    Attributes:
        exact_start: False: x starts as sigma_ve z_t, as in VEnhancer's sampler. True: x starts as z_t / alpha_t, and
            the network sees z_t itself. The former is smaller by the factor sigma_t (0.9991 at step 899, 0.94 at 499).
    """

    exact_start: bool = False
    drops_penultimate: ClassVar[bool] = False  # plan one more level and leave out the last one before 0

    def plan(self, schedule: Schedule, steps: int, start_step: int, end_step: int = 0) -> Plan:
        """Plan n levels by 'trailing' spacing: evenly spaced in time from start_step, the last 1/n-th above end_step.

        The network's integer step at a level is the nearest one to the level's own time, which is also the result of
        interpolating the level in log sigma.

        Args:
            schedule: the noise schedule.
            steps: solver steps, at least 1.
            start_step: the schedule's step that sampling starts from (t_max).
            end_step: the schedule's step at which the last step would end (t_min), below start_step.

        Raises:
            UserError: the steps do not fit between end_step and start_step, or these lie outside the schedule.
        """
        if not 0 <= end_step < start_step < schedule.timesteps:
            raise UserError(
                f"sampler.end_step {end_step} and sampler.start_step {start_step} must satisfy "
                f"0 <= end_step < start_step < {schedule.timesteps}"
            )
        levels = steps + self.drops_penultimate
        span = start_step - end_step + 1
        if steps < 1 or levels > span:
            most = span - self.drops_penultimate
            raise UserError(f"sampler.steps is {steps}; with this start_step and end_step it must be 1 to {most}")
        times = [start_step - i * span / levels for i in range(levels)]
        if self.drops_penultimate:
            times.pop()
        return Plan((*(schedule.sigma_ve(t) for t in times), 0.0), tuple(round(t) for t in times))

    def begin(self, plan: Plan, z_start: Tensor) -> State:
        """Return the state before the first step, from the latent with noise of start_step (Eq. 2)."""
        first = plan.sigmas[0]
        if math.isinf(first):
            return State(z_start)
        return State(z_start * (math.hypot(1, first) if self.exact_start else first))

    @abstractmethod
    def step(self, plan: Plan, state: State, i: int, denoise: Denoise, noise: Noise) -> State:
        """Take the step from level i to level i + 1.

        Args:
            plan: the levels.
            state: the state at level i.
            i: 0 to len(plan) - 1.
            denoise: the guided network.
            noise: called with i if the solver is stochastic.
        """

    def sample(
        self,
        plan: Plan,
        z_start: Tensor,
        denoise: Denoise,
        noise: Noise,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Take all steps and return z_0; ``progress`` is called with (steps done, steps in all)."""
        state = self.begin(plan, z_start)
        for i in range(len(plan)):
            state = self.step(plan, state, i, denoise, noise)
            if progress is not None:
                progress(i + 1, len(plan))
        return state.x


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP2MSDE(Solver):
    """DPM-Solver++(2M) SDE, midpoint rule (Lu et al. 2022, algorithm of k-diffusion's ``sample_dpmpp_2m_sde``).

    With lambda = -log sigma, h = lambda_{i+1} - lambda_i, h' = (1 + eta) h and D the z_0 estimate,
    x_{i+1} = (sigma_{i+1}/sigma_i) e^{-eta h} x_i + (1 - e^{-h'}) (D_i + (h / (2 h_last)) (D_i - D_{i-1}))
    + sigma_{i+1} sqrt(1 - e^{-2 eta h}) noise.

    Attributes:
        eta: the share of the stochastic equation's noise; 0: deterministic.
    """

    eta: float = 1.0
    drops_penultimate: ClassVar[bool] = True

    def step(self, plan: Plan, state: State, i: int, denoise: Denoise, noise: Noise) -> State:
        """See :meth:`Solver.step`."""
        sigma, sigma_next = plan.sigmas[i], plan.sigmas[i + 1]
        denoised = _denoise_at(plan, i, state.x, denoise)
        if sigma_next == 0:
            return State(denoised, denoised)
        if math.isinf(sigma):
            return State(denoised + sigma_next * state.x, denoised)
        h = math.log(sigma / sigma_next)
        gain = -math.expm1(-(1 + self.eta) * h)
        estimate = denoised
        # An infinite level before this one makes h_last infinite: the correction is then zero.
        if state.denoised is not None and not math.isinf(plan.sigmas[i - 1]):
            h_last = math.log(plan.sigmas[i - 1] / sigma)
            estimate = denoised + (0.5 * h / h_last) * (denoised - state.denoised)
        x = (sigma_next / sigma * math.exp(-self.eta * h)) * state.x + gain * estimate
        if self.eta:
            x = x + (sigma_next * math.sqrt(-math.expm1(-2 * self.eta * h))) * noise(i)
        return State(x, denoised)


@dataclass(frozen=True, kw_only=True)
class Heun(Solver):
    """Heun's method (Karras et al. 2022, algorithm 1): deterministic; two network calls a step, one in the last."""

    def step(self, plan: Plan, state: State, i: int, denoise: Denoise, noise: Noise) -> State:
        """See :meth:`Solver.step`."""
        sigma, sigma_next = plan.sigmas[i], plan.sigmas[i + 1]
        denoised = _denoise_at(plan, i, state.x, denoise)
        if sigma_next == 0:
            return State(denoised, denoised)
        if math.isinf(sigma):
            return State(denoised + sigma_next * state.x, denoised)
        slope = (state.x - denoised) / sigma
        euler = state.x + (sigma_next - sigma) * slope
        denoised_next = _denoise_at(plan, i + 1, euler, denoise)
        slope_next = (euler - denoised_next) / sigma_next
        return State(state.x + (sigma_next - sigma) * 0.5 * (slope + slope_next), denoised)


def make_solver(config: SamplerConfig) -> Solver:
    """Make the solver of a configuration.

    Raises:
        UserError: eta is outside [0, 1].
    """
    if not 0 <= config.eta <= 1:
        raise UserError(f"sampler.eta is {config.eta}; it must lie between 0 and 1")
    match Solvers(config.solver):
        case Solvers.dpmpp_2m_sde:
            return DPMSolverPP2MSDE(eta=config.eta, exact_start=config.exact_start)
        case Solvers.heun:
            return Heun(exact_start=config.exact_start)


def _denoise_at(plan: Plan, i: int, x: Tensor, denoise: Denoise) -> Tensor:
    sigma = plan.sigmas[i]
    z_t = x if math.isinf(sigma) else x / math.hypot(1, sigma)
    return denoise(z_t, plan.steps[i])
