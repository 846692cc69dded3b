"""The sampler, which restores a low-quality latent with a schedule, a solver, a guider and a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.options import SamplerConfig
from ipfvr.diffusion.conditions import Conditions
from ipfvr.diffusion.guidance import make_guider
from ipfvr.diffusion.noise import HINT_STEP, START_STEP, frame_noise
from ipfvr.diffusion.schedule import Schedule
from ipfvr.diffusion.solvers import Denoise, Noise, Plan, Solver, State, make_solver
from ipfvr.diffusion.streams import Denoiser, Hint, Streams, guided_denoise


@dataclass(frozen=True)
class LatentTarget:
    """The target of the diffusion: the restored latent itself, or its scaled difference to the low-quality one.

    Attributes:
        residual_scale: 0: x = z_hq; s > 0: x = (z_hq - z_lq) / s, where s is the standard deviation of the difference.
    """

    residual_scale: float = 0.0

    def __post_init__(self) -> None:
        if self.residual_scale < 0:
            raise UserError(f"sampler.residual_scale is {self.residual_scale}; it must be 0 or above")

    def encode(self, z_hq: Tensor, z_lq: Tensor) -> Tensor:
        """Return x, which the network learns to denoise, from two latents of the same shape."""
        return (z_hq - z_lq) / self.residual_scale if self.residual_scale else z_hq

    def decode(self, x: Tensor, z_lq: Tensor) -> Tensor:
        """Return the restored latent of x: the inverse of :meth:`encode`."""
        return z_lq + self.residual_scale * x if self.residual_scale else x

    def guess(self, z_lq: Tensor) -> Tensor:
        """Return the start of sampling before noise is added: the x of z_hq = z_lq."""
        return self.encode(z_lq, z_lq)


@dataclass(frozen=True)
class LatentClip:
    """A low-quality clip, the input of the sampler.

    Attributes:
        latent: (1, C, F, h, w), all F frames.
        frames: the F frames' absolute indices in the video, which key the noise.
        seed: the seed of the noise.
        up_scale: the factor between the low-quality pixels and the restored ones.
        mask_cond: (1, F) 0 at key frames, 1 at frames to interpolate; None: all are key frames.
        noise_key: identifies the clip in the key of the noise, so that it has its own noise; None: clips share noise
            (Eq. 9).

    Raises:
        ValueError: the shapes do not fit together.
    """

    latent: Tensor
    frames: Sequence[int]
    seed: int
    up_scale: int
    mask_cond: Tensor | None = None
    noise_key: int | None = None

    def __post_init__(self) -> None:
        count = len(self.frames)
        if self.latent.ndim != 5 or self.latent.shape[0] != 1 or self.latent.shape[2] != count:
            raise ValueError(f"latent must be (1, C, {count}, h, w), not {tuple(self.latent.shape)}")
        if self.mask_cond is not None and self.mask_cond.shape != (1, count):
            raise ValueError(f"mask_cond must be (1, {count}), not {tuple(self.mask_cond.shape)}")

    @property
    def mask(self) -> Tensor:
        """``mask_cond``, or by default the mask in which all frames are key frames."""
        if self.mask_cond is not None:
            return self.mask_cond
        return torch.zeros(1, len(self.frames), dtype=torch.long, device=self.latent.device)


@dataclass
class Run:
    """The sampling of one clip, step by step.

    Attributes:
        solver: takes the steps.
        plan: the noise levels.
        denoise: the guided network.
        noise: the solver's noise for this clip's frames.
        state: the state of the clip, which may be replaced between steps.
        decode: decodes the solver's result to the restored latent.
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
        """Take step i; steps must be taken in order."""
        self.state = self.solver.step(self.plan, self.state, i, self.denoise, self.noise)

    def result(self) -> Tensor:
        """Return the restored latent (B, C, F, h, w) after the last step."""
        return self.decode(self.state.x)


class Sampler:
    """Restores latents by the options of a configuration."""

    def __init__(self, config: SamplerConfig, schedule: Schedule):
        """Choose the strategies and plan the steps.

        Raises:
            UserError: an option has an invalid value; the message names it.
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
        clip: LatentClip,
        conditions: Conditions,
        between: Callable[[int, State], State] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Restore one clip.

        Args:
            denoiser, clip, conditions: as :meth:`begin` takes them.
            between: called with (step, state) after each step but the last; returns the state to continue with.
            progress: called after each step with (steps done, steps in all).

        Returns:
            (1, C, F, h, w) restored latent, in the clip's dtype.

        Raises:
            ValueError: as :meth:`begin`.
        """
        run = self.begin(denoiser, clip, conditions)
        for i in range(len(run)):
            run.step(i)
            if between is not None and i + 1 < len(run):
                run.state = between(i, run.state)
            if progress is not None:
                progress(i + 1, len(run))
        return run.result()

    def begin(self, denoiser: Denoiser, clip: LatentClip, conditions: Conditions) -> Run:
        """Add noise to the hint and the start, and return the run before its first step.

        All noise is keyed by (seed, absolute frame, step), so the division into clips does not change it, unless the
        clip has a ``noise_key``.

        Args:
            denoiser: predicts v; it is called in the text's dtype, while the solver computes in float32 or better.
            clip: the clip to restore.
            conditions: the conditions of the person.

        Raises:
            ValueError: the conditions lack a branch of the guider.
        """
        work = torch.promote_types(clip.latent.dtype, torch.float32)
        z, mask = clip.latent.to(work), clip.mask

        def noise(step: int) -> Tensor:
            shape = (z.shape[1], z.shape[3], z.shape[4])
            rho = self.config.noise_correlation
            return frame_noise(shape, clip.seed, clip.frames, step, rho, z.device, work, clip.noise_key).unsqueeze(0)

        latent, hint_step = z, 0
        if self.config.hint_step >= 0:
            hint_step = self.config.hint_step
            latent = self.schedule.add_noise(z, noise(HINT_STEP), hint_step)
        hint = Hint(latent[:, :, mask[0] == 0], hint_step, clip.up_scale, mask)
        branches = conditions.branches(self.branches)
        start = self.schedule.add_noise(self.target.guess(z), noise(START_STEP), self.config.start_step)
        return Run(
            solver=self.solver,
            plan=self.plan,
            denoise=guided_denoise(denoiser, self.schedule, self.guider, branches, hint, self.streams),
            noise=noise,
            state=self.solver.begin(self.plan, start),
            decode=lambda x: self.target.decode(x, z).to(clip.latent.dtype),
        )
