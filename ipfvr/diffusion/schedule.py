"""The noise schedule: log-SNR cosine-interpolated, zero terminal SNR (VEnhancer's), with Eq. 2 and 3."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ipfvr.core.errors import UserError
from ipfvr.core.options import ScheduleConfig
from ipfvr.core.shapes import Float

LOG_SNR_LIMIT = 15.0  # the cosine curve runs from +15 to -15 before it is shifted


class Schedule:
    """alpha_t and sigma_t of Eq. 2 for the steps t = 0 (nearly clean) to timesteps - 1 (pure noise).

    Attributes:
        sigmas: (timesteps,) float32, strictly rising, in (0, 1].
        alphas: (timesteps,) float32, sqrt(1 - sigma^2), computed in double precision.
        log_ratios: (timesteps,) float64, log(sigma / alpha): the log of the variance-exploding view's sigma;
            infinite at the last step when the terminal SNR is zero.
    """

    def __init__(self, config: ScheduleConfig):
        """Compute the tables.

        Raises:
            UserError: there are fewer than two steps, or a shift is not positive.
        """
        if config.timesteps < 2:
            raise UserError(f"schedule.timesteps is {config.timesteps}; it must be at least 2")
        if min(config.scale_min, config.scale_max) <= 0:
            raise UserError("schedule.scale_min and schedule.scale_max must be above 0")
        # Double precision, because rounding would otherwise destroy alpha at the noisy end.
        log_snr = interpolated_log_snr(config.timesteps, config.scale_min, config.scale_max)
        sigmas = torch.sigmoid(-log_snr).sqrt()
        if config.zero_terminal_snr:
            sigmas = rescale_to_zero_terminal_snr(sigmas)
        alphas = (1 - sigmas.square()).clamp(min=0).sqrt()
        self.timesteps = config.timesteps
        self.sigmas = sigmas.float()
        self.alphas = alphas.float()
        self.log_ratios = sigmas.log() - alphas.log()
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def add_noise(
        self, z: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], step: int | Tensor
    ) -> Float[Tensor, "*shape"]:
        """Compute Eq. 2: z_t = alpha_t z + sigma_t eps.

        Args:
            z: (B, ...) clean latent.
            noise: like ``z``, unit variance.
            step: one step, or one for each item of the batch, (B,).

        Examples:
            >>> schedule = Schedule(ScheduleConfig())
            >>> z, noise = torch.ones(1, 4), torch.full((1, 4), 2.0)
            >>> schedule.add_noise(z, noise, 999)  # the last step is pure noise
            tensor([[2., 2., 2., 2.]])
        """
        alpha, sigma = self._coefficients(step, z)
        return alpha * z + sigma * noise

    def velocity(
        self, z: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], step: int | Tensor
    ) -> Float[Tensor, "*shape"]:
        """Compute the target of Eq. 3: v_t = alpha_t eps - sigma_t z. Shapes as for :meth:`add_noise`."""
        alpha, sigma = self._coefficients(step, z)
        return alpha * noise - sigma * z

    def denoised_from_v(
        self, z_t: Float[Tensor, "*shape"], v: Float[Tensor, "*shape"], step: int | Tensor
    ) -> Float[Tensor, "*shape"]:
        """Compute the one-step estimate z_0 = alpha_t z_t - sigma_t v (from Eq. 2 and v's definition).

        Examples:
            >>> schedule, z, noise = Schedule(ScheduleConfig()), torch.ones(1, 4), torch.full((1, 4), 2.0)
            >>> z_t, v = schedule.add_noise(z, noise, 500), schedule.velocity(z, noise, 500)
            >>> torch.allclose(schedule.denoised_from_v(z_t, v, 500), z, atol=1e-5)
            True
        """
        alpha, sigma = self._coefficients(step, z_t)
        return alpha * z_t - sigma * v

    def noise_from_v(
        self, z_t: Float[Tensor, "*shape"], v: Float[Tensor, "*shape"], step: int | Tensor
    ) -> Float[Tensor, "*shape"]:
        """Compute the noise in a prediction v: eps = sigma_t z_t + alpha_t v (from Eq. 2 and v's definition)."""
        alpha, sigma = self._coefficients(step, z_t)
        return sigma * z_t + alpha * v

    def loss(
        self,
        prediction: Float[Tensor, "*shape"],
        z: Float[Tensor, "*shape"],
        noise: Float[Tensor, "*shape"],
        step: int | Tensor,
        weight: Tensor | None = None,
    ) -> Float[Tensor, ""]:
        """Compute Eq. 3: L_rec = ||v - f_theta(z_t, t, ...)||^2, the mean over all elements; a scalar.

        Args:
            prediction, z, noise: (B, C, F, h, w).
            step: one step, or one for each item of the batch, (B,).
            weight: the weight of each element, which broadcasts to ``z``; None: all weights are equal.
        """
        target = self.velocity(z, noise, step)
        if weight is None:
            return functional.mse_loss(prediction, target)
        weight = weight.expand_as(target)
        return (weight * (prediction - target).square()).sum() / weight.sum().clamp(min=1)

    def sigma_ve(self, step: float) -> float:
        """Compute sigma / sqrt(1 - sigma^2) at a step, with log-linear interpolation between the steps of the table.

        Args:
            step: 0 to timesteps - 1.

        Returns:
            The noise level of the variance-exploding view, where z_t / alpha_t = z + sigma_ve eps; infinite at
            zero SNR.
        """
        low = min(math.floor(step), self.timesteps - 2)
        share = step - low
        # An exact table step must not touch a neighbour that may be infinite (0 * inf is not a number).
        if share in (0.0, 1.0):
            return math.exp(self.log_ratios[low + int(share)].item())
        return math.exp((1 - share) * self.log_ratios[low].item() + share * self.log_ratios[low + 1].item())

    def _coefficients(self, step: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        # Steps stay on their device, because fetching them from a GPU would wait for all of its pending work.
        steps = torch.as_tensor(step)
        shape = (-1, *[1] * (like.ndim - 1)) if steps.ndim else ()
        if steps.device not in self._tables:
            self._tables[steps.device] = (self.alphas.to(steps.device), self.sigmas.to(steps.device))
        return tuple(table[steps].reshape(shape).to(like) for table in self._tables[steps.device])  # type: ignore


def interpolated_log_snr(timesteps: int, scale_min: float, scale_max: float) -> Tensor:
    """Interpolate log(alpha^2 / sigma^2) in t between two shifted cosine schedules.

    The cosine schedule is log SNR = -2 log tan(angle), where the angle is linear in t and the values are limited to
    +-15. A schedule for pictures ``s`` times as large is the same curve lowered by 2 log s (Hoogeboom et al. 2023,
    "simple diffusion", which also introduces the interpolation).

    Returns:
        (timesteps,) float64, falling.
    """
    time = torch.linspace(0, 1, timesteps, dtype=torch.float64)
    first, last = (math.atan(math.exp(-0.5 * limit)) for limit in (LOG_SNR_LIMIT, -LOG_SNR_LIMIT))
    cosine = -2 * torch.log(torch.tan(first + time * (last - first)))
    return cosine - 2 * ((1 - time) * math.log(scale_min) + time * math.log(scale_max))


def rescale_to_zero_terminal_snr(sigmas: Tensor) -> Tensor:
    """Stretch sigma linearly so that its first value stays and its last value is exactly 1 (pure noise).

    The idea is Lin et al. 2023's ("Common diffusion noise schedules and sample steps are flawed"); VEnhancer's schedule
    stretches sigma itself rather than alpha.
    """
    first, last = sigmas[0], sigmas[-1]
    stretched = first + (1 - first) * (sigmas - first) / (last - first)
    stretched[-1] = 1.0
    return stretched
