"""The work of CPU processes for a batch: H.264. Each process imports this module, so it imports little itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ipfvr.degradation.pipeline import Parameters, degrade_softened


def encode_clips(clips: Sequence[np.ndarray], parameters: Sequence[Parameters | None]) -> list[np.ndarray]:
    """Apply the rest of Eq. 13 to clips whose first round has been softened.

    Args:
        clips: (F, h, w, 3) uint8 each.
        parameters: of each; None: it stays as it is.

    Returns:
        (F, h, w, 3) uint8 each.
    """
    return [
        clip if this is None else np.stack(list(degrade_softened(clip, this)))
        for clip, this in zip(clips, parameters, strict=True)
    ]
