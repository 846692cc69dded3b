"""Grouping of the tracks of a film by person, without reference pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ipfvr.faces.track import FaceTrack


def group_tracks(tracks: Sequence[tuple[int, FaceTrack]], same: float) -> list[list[int]]:
    """Put the tracks of one person together, the likest pair of groups first.

    Two groups become one where the cosine of their mean vectors is at least ``same`` and they share no frame: a person
    is in one place at a time. A track without a vector stays by itself.

    Args:
        tracks: (number of the film, track), the tracks with vectors; those of two films share no frame.
        same: the bound; see :func:`ipfvr.faces.people.with_bounds`.

    Returns:
        The indices of each person's tracks, rising; who is seen in most frames comes first.

    Example:
        >>> turned = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.array([[0.96, 0.28]])]
        >>> def track(start, vectors):
        ...     return FaceTrack(start, np.zeros((5, 5, 2)), np.ones(5, bool), 1.0, 1.0, vectors)
        >>> group_tracks([(0, track(10 * n, v)) for n, v in enumerate(turned)], same=0.9)
        [[0, 2], [1]]
    """
    groups = [[n] for n in range(len(tracks))]
    sums = [track.vectors.sum(0) if len(track.vectors) else None for _, track in tracks]
    while True:
        best, pair = same, None
        for i, first in enumerate(groups):
            for j in range(i):
                cosine = _cosine(sums[i], sums[j])
                if cosine >= best and not _share_frame(tracks, first, groups[j]):
                    best, pair = cosine, (i, j)
        if pair is None:
            break
        i, j = pair
        groups[j], sums[j] = sorted(groups[j] + groups[i]), sums[j] + sums[i]
        del groups[i], sums[i]
    return sorted(groups, key=lambda group: (-sum(len(tracks[n][1].landmarks) for n in group), group))


def _cosine(first: np.ndarray | None, second: np.ndarray | None) -> float:
    if first is None or second is None:
        return -1.0
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def _share_frame(tracks: Sequence[tuple[int, FaceTrack]], first: Sequence[int], second: Sequence[int]) -> bool:
    """Return whether a track of one group and a track of the other share a frame."""
    return any(
        tracks[a][0] == tracks[b][0]
        and tracks[a][1].start < tracks[b][1].stop
        and tracks[b][1].start < tracks[a][1].stop
        for a in first
        for b in second
    )
