"""Noise that is keyed by (seed, absolute frame, step), so that Eq. 9 holds by construction."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.shapes import Float

# Keys for noise outside the solver steps, which are counted from 0.
START_STEP = -1
HINT_STEP = -2


def frame_noise(
    shape: tuple[int, int, int],
    seed: int,
    frames: Sequence[int],
    step: int,
    correlation: float = 0.0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    clip: int | None = None,
) -> Float[Tensor, "c f h w"]:
    """Draw the noise of Eq. 9: overlapping clips share the noise of the frames they share.

    Each frame's noise depends only on (seed, frame, step), so Eq. 9 holds for any division into clips, any order, any
    number of devices and after a resume. With ``clip`` the noise belongs to that clip alone (the paper's 'w/o NS').
    Noise is drawn on the CPU in float32, so every device gets the same numbers.

    Args:
        shape: (C, h, w) of one frame.
        seed: any integer.
        frames: the absolute indices of the F frames in the video.
        step: the solver step, from 0, or ``START_STEP`` or ``HINT_STEP``.
        correlation: rho, the share of the variance that all frames have in common:
            sqrt(1 - rho) own + sqrt(rho) common, which has unit variance for every rho.
        device: the device of the result.
        dtype: the dtype of the result.
        clip: a number that is unique to this clip in the video; None: clips share noise.

    Returns:
        (C, F, h, w), unit variance.

    Raises:
        UserError: the correlation is outside [0, 1].

    Examples:
        >>> first, second = (frame_noise((4, 2, 2), 0, range(start, start + 8), START_STEP) for start in (0, 5))
        >>> bool((first[:, 5:] == second[:, :3]).all())  # frames 5 to 7 are in both clips
        True
    """
    if not 0 <= correlation <= 1:
        raise UserError(f"sampler.noise_correlation is {correlation}; it must lie between 0 and 1")
    noise = np.zeros((shape[0], len(frames), *shape[1:]), np.float32)
    # A key without a clip has no suffix, so that earlier seeds still give the same videos.
    of_clip = "" if clip is None else f"/{int(clip)}"
    own_share, common_share = np.float32(math.sqrt(1 - correlation)), np.float32(math.sqrt(correlation))
    if own_share:
        for place, frame in enumerate(frames):
            noise[:, place] = own_share * _normal(shape, seed, int(frame), step, of_clip)
    if common_share:
        noise += common_share * _normal(shape, seed, "common", step, of_clip)[:, None]
    return torch.from_numpy(noise).to(device=device, dtype=dtype)


def _normal(shape: tuple[int, ...], seed: int, frame: int | str, step: int, of_clip: str) -> np.ndarray:
    # A cryptographic hash makes similar keys (seed 0, frame 1 and seed 1, frame 0) independent.
    name = f"{int(seed)}/{frame}/{int(step)}{of_clip}"
    key = hashlib.blake2b(name.encode(), digest_size=16, person=b"ipfvr.noise").digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return generator.standard_normal(shape, dtype=np.float32)
