"""The degraded reference of Eq. 12."""

from __future__ import annotations

import numpy as np

from ipfvr.core.options import Config
from ipfvr.core.shapes import UInt8
from ipfvr.degradation.pipeline import degrade, sample_parameters

_SEED = 0  # of every degraded reference; it draws two rounds


def degraded_reference(face: UInt8[np.ndarray, "side side 3"], config: Config) -> UInt8[np.ndarray, "1 low low 3"]:
    """Return the picture behind c~_i of Eq. 12: a reference under the heavy degradation of Eq. 13, at a fixed seed.

    Args:
        face: aligned crop (size, size, 3) uint8 RGB.
        config: gives r and the size that sigma is scaled for.

    Returns:
        (1, size // r, size // r, 3) uint8 RGB; the image prompt sees it brought back to ``video.size``.
    """
    video = config.video
    parameters = sample_parameters("heavy", video.scale, video.size, _SEED, config.degradation.scale_sigma)
    return degrade(face[None], parameters)
