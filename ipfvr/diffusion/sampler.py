"""From a low-quality latent to a restored one: schedule, solver, guider and denoiser put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.options import SamplerConfig
from ipfvr.diffusion.guidance import NEGATIVE_TEXT, NEGATIVE_VISUAL, POSITIVE, make_guider
from ipfvr.diffusion.noise import HINT_STEP, START_STEP, frame_noise
from ipfvr.diffusion.schedule import Schedule
from ipfvr.diffusion.solvers import Denoise, Noise, Plan, Solver, State, make_solver
from ipfvr.diffusion.streams import Conditions, Denoiser, Hint, Streams, guided_denoise


@dataclass(frozen=True)
class LatentTarget:
    """What is diffused: the restored latent itself or, scaled, its difference to the low-quality one.

    Attributes:
        residual_scale: 0: x = z_hq; s > 0: x = (z_hq - z_lq) / s, where s is the standard deviation of the difference.
    """

    residual_scale: float = 0.0

    def __post_init__(self) -> None:
        if self.residual_scale < 0:
            raise UserError(f"sampler.residual_scale is {self.residual_scale}; it must be 0 or above")

    def encode(self, z_hq: Tensor, z_lq: Tensor) -> Tensor:
        """x, which the network learns to denoise; latents of one shape."""
        return (z_hq - z_lq) / self.residual_scale if self.residual_scale else z_hq

    def decode(self, x: Tensor, z_lq: Tensor) -> Tensor:
        """The restored latent of x: the inverse of :meth:`encode`."""
        return z_lq + self.residual_scale * x if self.residual_scale else x

    def guess(self, z_lq: Tensor) -> Tensor:
        """What sampling starts from before noise is added: x of z_hq = z_lq."""
        return self.encode(z_lq, z_lq)


@dataclass
class Run:
    """One clip on its way, step by step.

    Attributes:
        solver: takes the steps.
        plan: the noise levels.
        denoise: the guided network.
        noise: the solver's noise for this clip's frames.
        state: where the clip stands; may be replaced between steps.
        decode: from the solver's result to the restored latent.
    """

    solver: Solver
    plan: Plan
    denoise: Denoise
    noise: Noise
    state: State
    decode: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.plan)

    @torch.no_grad()
    def step(self, i: int) -> None:
        """Take step i; they must be taken in order."""
        self.state = self.solver.step(self.plan, self.state, i, self.denoise, self.noise)

    def result(self) -> Tensor:
        """The restored latent (B, C, F, h, w), after the last step."""
        return self.decode(self.state.x)


class Sampler:
    """Restores latents the way a configuration says."""

    def __init__(self, config: SamplerConfig, schedule: Schedule):
        """Choose the strategies and plan the steps.

        Raises:
            UserError: an option without meaning; the line names it.
        """
        if not -1 <= config.hint_step < schedule.timesteps:
            raise UserError(
                f"sampler.hint_step is {config.hint_step}; it must be -1 (no noise) to {schedule.timesteps - 1}"
            )
        self.config = config
        self.schedule = schedule
        self.solver = make_solver(config)
        self.guider = make_guider(config)
        self.streams = Streams(config.batch_streams)
        self.target = LatentTarget(config.residual_scale)
        self.plan = self.solver.plan(schedule, config.steps, config.start_step, config.end_step)

    @property
    def branches(self) -> frozenset[str]:
        """The branches that the guider names at any step of the plan."""
        return frozenset(name for step in self.plan.steps for name in self.guider.branches(step))

    def restore_latent(
        self,
        denoiser: Denoiser,
        z_lq: Tensor,
        text: Tensor,
        negative_text: Tensor | None,
        frames: Sequence[int],
        seed: int,
        up_scale: int,
        mask_cond: Tensor | None = None,
        image_tokens: Tensor | None = None,
        degraded_tokens: Tensor | None = None,
        clip: int | None = None,
        between: Callable[[int, State], State] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Restore one clip; see :meth:`begin` for what is given.

        Args:
            between: called with (step, state) after each step but the last; gives the state to go on with.
            progress: called after each step with (steps done, steps in all).

        Returns:
            (1, C, F, h, w) restored latent, of ``z_lq``'s dtype.
        """
        tokens = (image_tokens, degraded_tokens)
        run = self.begin(denoiser, z_lq, text, negative_text, frames, seed, up_scale, mask_cond, *tokens, clip)
        for i in range(len(run)):
            run.step(i)
            if between is not None and i + 1 < len(run):
                run.state = between(i, run.state)
            if progress is not None:
                progress(i + 1, len(run))
        return run.result()

    def begin(
        self,
        denoiser: Denoiser,
        z_lq: Tensor,
        text: Tensor,
        negative_text: Tensor | None,
        frames: Sequence[int],
        seed: int,
        up_scale: int,
        mask_cond: Tensor | None = None,
        image_tokens: Tensor | None = None,
        degraded_tokens: Tensor | None = None,
        clip: int | None = None,
    ) -> Run:
        """Noise the hint and the start, and stand before the first step.

        All noise is keyed by (seed, absolute frame, step), so the cut into clips does not change it, unless ``clip``
        says so.

        Args:
            denoiser: predicts v; called in ``text``'s dtype, while the solver computes in float32 or better.
            z_lq: (1, C, F, h, w) latent of the low-quality clip, all F frames.
            text: (1, L, D) embedding of the positive prompt.
            negative_text: (1, L, D) of the negative one; may be None where the guider has no such branch.
            frames: the F frames' absolute indices in the video.
            seed: of the noise.
            up_scale: the factor between the low-quality pixels and the restored ones.
            mask_cond: (1, F) 0 at key frames, 1 at frames to interpolate; None: all are key frames.
            image_tokens: (1, N, D) image prompt, c_i of Eq. 12, or None.
            degraded_tokens: (1, N, D) of the degraded reference, c~_i; None: the negative visual branch is not run.
            clip: names the clip in the noise's key, which then is its own (without noise sharing); None: shared.

        Raises:
            ValueError: shapes that do not fit together.
        """
        if z_lq.ndim != 5 or z_lq.shape[0] != 1 or z_lq.shape[2] != len(frames):
            raise ValueError(f"z_lq must be (1, C, {len(frames)}, h, w), not {tuple(z_lq.shape)}")
        if mask_cond is None:
            mask_cond = torch.zeros(1, len(frames), dtype=torch.long, device=z_lq.device)
        if mask_cond.shape != (1, len(frames)):
            raise ValueError(f"mask_cond must be (1, {len(frames)}), not {tuple(mask_cond.shape)}")
        conditions = {POSITIVE: Conditions(text, image_tokens)}
        if NEGATIVE_TEXT in self.branches:
            if negative_text is None:
                raise ValueError(f"sampler.guider {self.config.guider} needs negative_text")
            conditions[NEGATIVE_TEXT] = Conditions(negative_text, image_tokens)
        if degraded_tokens is not None:
            conditions[NEGATIVE_VISUAL] = Conditions(text, degraded_tokens)

        work = torch.promote_types(z_lq.dtype, torch.float32)
        z = z_lq.to(work)

        def noise(step: int) -> Tensor:
            shape = (z.shape[1], z.shape[3], z.shape[4])
            rho = self.config.noise_correlation
            return frame_noise(shape, seed, frames, step, rho, z.device, work, clip).unsqueeze(0)

        latent, hint_step = z, 0
        if self.config.hint_step >= 0:
            hint_step = self.config.hint_step
            latent = self.schedule.add_noise(z, noise(HINT_STEP), hint_step)
        hint = Hint(latent[:, :, mask_cond[0] == 0], hint_step, up_scale, mask_cond)
        start = self.schedule.add_noise(self.target.guess(z), noise(START_STEP), self.config.start_step)
        return Run(
            solver=self.solver,
            plan=self.plan,
            denoise=guided_denoise(denoiser, self.schedule, self.guider, conditions, hint, self.streams),
            noise=noise,
            state=self.solver.begin(self.plan, start),
            decode=lambda x: self.target.decode(x, z).to(z_lq.dtype),
        )
