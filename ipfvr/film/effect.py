"""The effect of a reference on a film: the same frames restored with the reference and without it."""

from __future__ import annotations

import numpy as np

from ipfvr.core.options import Config
from ipfvr.faces.paste import blend_mask
from ipfvr.film.people import LoadedPeople
from ipfvr.film.plan import Plan, Presence
from ipfvr.video.reader import VideoReader

_FRAMES = 8  # frames for each person, from the middle of the longest stretch that shows the person
HARDLY = 0.1  # grey levels; nobody sees a smaller difference


def reference_changes(plan: Plan, reader: VideoReader, loaded: LoadedPeople, config: Config) -> dict[str, float]:
    """Measure how much each person's references change the face.

    Args:
        plan: which person is seen in which frames.
        reader: the source.
        loaded: the restorers of all people.
        config: gives the size of the aligned crop.

    Returns:
        The mean absolute difference inside the face's mask, in grey levels (0 to 255), for each person whose references
        the network sees.
    """
    presences = {who: _longest(plan, who) for who, p in loaded.people.items() if p.conditions.references}
    frames_of = {who: _middle(presence) for who, presence in presences.items()}
    size, lows = config.video.size, {who: [] for who in presences}
    for frame in reader.frames_at(sorted({index for frames in frames_of.values() for index in frames})):
        for who, frames in frames_of.items():
            if frame.index in frames:
                lows[who].append(presences[who].low(frame.index, frame.image, size))
    changes = {}
    for who, frames in frames_of.items():
        low = np.stack(lows[who])
        without = loaded.without_references(who).restore(low, frames)
        changes[who] = mean_difference(loaded.people[who].restore(low, frames), without)
    return changes


def _longest(plan: Plan, who: str) -> Presence:
    return max((p for p in plan.presences if p.who == who), key=lambda p: p.stop - p.start)


def _middle(presence: Presence) -> range:
    first = max(presence.start, (presence.start + presence.stop - _FRAMES) // 2)
    return range(first, min(presence.stop, first + _FRAMES))


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean absolute difference of two clips (F, size, size, 3) uint8 inside the face's mask, grey levels."""
    mask = blend_mask(first.shape[1])[..., None]
    difference = np.abs(first.astype(np.int16) - second)
    return float((mask * difference).sum() / (len(first) * 3 * mask.sum()))
