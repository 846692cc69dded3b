"""What a reference changes in a film: the same frames restored with it and without."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ipfvr.core.options import Config
from ipfvr.faces.paste import blend_mask
from ipfvr.film.plan import Plan, Role
from ipfvr.restoration import Restorer
from ipfvr.video.reader import VideoReader

_FRAMES = 8  # of each person, from the middle of the longest stretch in which the person is seen
HARDLY = 0.1  # grey levels below which nobody sees a difference


def reference_changes(
    plan: Plan,
    reader: VideoReader,
    restorers: Mapping[str, Restorer],
    config: Config,
    without: Mapping[str, Restorer],
) -> dict[str, float]:
    """How much each person's references change the face, in mean absolute grey levels (0 to 255) inside its mask.

    Args:
        plan: who is seen where.
        reader: the source.
        restorers: by who is restored.
        config: gives the square's size.
        without: by who is restored: what restores without the references, where that is another restorer.

    Returns:
        By who is restored; only people whose references are shown to the network.
    """
    roles = {who: _longest(plan, who) for who, r in restorers.items() if r.shows_references}
    wanted = {who: _middle(role) for who, role in roles.items()}
    size, lows = config.video.size, {who: [] for who in roles}
    for frame in reader.frames_at(sorted({index for frames in wanted.values() for index in frames})):
        for who, frames in wanted.items():
            if frame.index in frames:
                lows[who].append(roles[who].low(frame.index, frame.image, size))
    return {
        who: _change(restorers[who], without.get(who, restorers[who]), np.stack(lows[who]), frames)
        for who, frames in wanted.items()
    }


def _longest(plan: Plan, who: str) -> Role:
    return max((role for role in plan.roles if role.who == who), key=lambda role: role.stop - role.start)


def _middle(role: Role) -> range:
    first = max(role.start, (role.start + role.stop - _FRAMES) // 2)
    return range(first, min(role.stop, first + _FRAMES))


def _change(restorer: Restorer, without: Restorer, low: np.ndarray, frames: range) -> float:
    shown = restorer.restore_clip(low, frames)
    with without.showing_nobody():
        alone = without.restore_clip(low, frames)
    return mean_difference(shown, alone)


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two clips (F, size, size, 3) uint8 inside the face's mask, grey levels."""
    mask = blend_mask(first.shape[1])[..., None]
    difference = np.abs(first.astype(np.int16) - second)
    return float((mask * difference).sum() / (len(first) * 3 * mask.sum()))
