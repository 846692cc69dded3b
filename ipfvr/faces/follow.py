"""Faces of single frames, linked into each face's way through a shot."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ipfvr.faces.detect import Face, box_overlap

_CUT_OVERLAP = 0.1  # boxes of neighbouring frames that share less are two scenes, or two people


@dataclass
class Chain:
    """One face's detections, in time's order.

    Attributes:
        frames: where it was detected.
        faces: what was detected there.
        vectors: a recogniser's vectors (D,) of some of them; none where nobody is looked for.
    """

    frames: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)


class Follower:
    """Links faces through time, frame by frame: where boxes overlap most, never across a cut.

    Args:
        max_gap: frames without a detection after which a face is another chain.
    """

    def __init__(self, max_gap: int) -> None:
        self._max_gap = max_gap
        self._index = 0
        self._open: list[Chain] = []
        self._done: list[Chain] = []

    def add(self, faces: list[Face], cut: bool = False) -> list[Chain]:
        """The next frame's faces.

        Args:
            faces: what a detector found.
            cut: the frame begins a new shot.

        Returns:
            the chain that each face has joined or begun.
        """
        index, self._index = self._index, self._index + 1
        still = [c for c in self._open if not cut and index - c.frames[-1] - 1 <= self._max_gap]
        kept = {id(chain) for chain in still}
        self._done += [c for c in self._open if id(c) not in kept]
        pairs = [
            (box_overlap(chain.faces[-1].box, face.box), c, f)
            for c, chain in enumerate(still)
            for f, face in enumerate(faces)
        ]
        joined: dict[int, Chain] = {}
        taken: set[int] = set()
        for overlap, c, f in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= _CUT_OVERLAP and c not in taken and f not in joined:
                taken.add(c)
                joined[f] = still[c]
        self._open = still
        for f, face in enumerate(faces):
            if f not in joined:
                joined[f] = Chain()
                self._open.append(joined[f])
            joined[f].frames.append(index)
            joined[f].faces.append(face)
        return [joined[f] for f in range(len(faces))]

    def chains(self) -> list[Chain]:
        """Every chain so far, in the order in which they ended."""
        return self._done + self._open
