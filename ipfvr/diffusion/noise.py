"""Noise keyed by (seed, absolute frame, step): Eq. 9 by construction."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.shapes import Float

# Keys for noise that belongs to no solver step (those count from 0).
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
    """Eq. 9: overlapping clips share the noise of the frames they share.

    Each frame's noise is a function of (seed, frame, step) alone, so the stack of Eq. 9 holds for any cut, order,
    number of devices and resume. With ``clip`` it is that clip's own (the paper's 'w/o NS'). It is drawn on the CPU in
    float32: every device gets the same numbers.

    Args:
        shape: (C, h, w) of one frame.
        seed: any integer.
        frames: the frames' absolute indices in the video, F of them.
        step: the solver's step, from 0, or ``START_STEP`` or ``HINT_STEP``.
        correlation: rho, share of the variance that all frames have in common:
            sqrt(1 - rho) own + sqrt(rho) common, which has unit variance for every rho.
        device: where the result lies.
        dtype: of the result.
        clip: anything that tells this clip from the others of the video; None: noise is shared between clips.

    Returns:
        (C, F, h, w), unit variance.

    Raises:
        UserError: correlation outside [0, 1].

    Examples:
        >>> first, second = (frame_noise((4, 2, 2), 0, range(start, start + 8), START_STEP) for start in (0, 5))
        >>> bool((first[:, 5:] == second[:, :3]).all())  # frames 5 to 7 are in both clips
        True
    """
    if not 0 <= correlation <= 1:
        raise UserError(f"sampler.noise_correlation is {correlation}; it must lie between 0 and 1")
    noise = np.empty((shape[0], len(frames), *shape[1:]), np.float32)
    # Keys without a clip have no suffix, so that old seeds still give the same videos.
    of_clip = "" if clip is None else f"/{int(clip)}"
    common = _normal(shape, seed, "common", step, of_clip) * np.float32(math.sqrt(correlation)) if correlation else None
    for place, frame in enumerate(frames):
        own = _normal(shape, seed, int(frame), step, of_clip)
        noise[:, place] = own if common is None else own * np.float32(math.sqrt(1 - correlation)) + common
    return torch.from_numpy(noise).to(device=device, dtype=dtype)


def _normal(shape: tuple[int, ...], seed: int, frame: int | str, step: int, of_clip: str) -> np.ndarray:
    # A cryptographic hash keeps neighbouring keys (seed 0, frame 1 and seed 1, frame 0) unrelated.
    name = f"{int(seed)}/{frame}/{int(step)}{of_clip}"
    key = hashlib.blake2b(name.encode(), digest_size=16, person=b"ipfvr.noise").digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return generator.standard_normal(shape, dtype=np.float32)
