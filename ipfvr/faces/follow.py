"""Linking the faces of single frames into one track for each face and shot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ipfvr.faces.detect import Detector, Face, box_overlap

# A frame's picture and a face of it to the recogniser's vector (D,).
Embed = Callable[[np.ndarray, Face], np.ndarray]

_CUT_OVERLAP = 0.1  # boxes of neighbouring frames that share less are two scenes, or two people
_ONE = 0.3  # boxes of one frame that share more are one face


@dataclass
class Chain:
    """The detections of one face, in order of time.

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
        """Take the next frame's faces.

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
        """Return all chains so far, in the order in which they ended."""
        return self._done + self._open


@dataclass
class _Seen:
    """The last frame that was searched."""

    index: int
    image: np.ndarray
    faces: list[Face]
    searched: bool  # by the detector


class Watch:
    """Finds the faces of the frames it is shown, and links them.

    Of the examined frames of a shot, the detector searches the first, every ``search_every``-th and the last. In
    the others known faces are looked for where they were (:meth:`ipfvr.faces.detect.Detector.follow`), which takes a
    fraction of the time; where one of them is not certain, the detector searches, too. A face that is new to
    the detector is looked for in the frame before too, so that it begins where searching every one would have found it.

    Args:
        detector: what searches and follows.
        max_gap: see :class:`Follower`.
        search_every: 1: the detector searches every frame that is looked at.
        embed: what makes a vector of every ``recognise_every``-th face of a chain; None: nobody is looked for.
        recognise_every: see ``embed``.
    """

    def __init__(
        self, detector: Detector, max_gap: int, search_every: int, embed: Embed | None, recognise_every: int
    ) -> None:
        self._detector, self._search_every = detector, search_every
        self._embed, self._recognise_every = embed, recognise_every
        self._follower = Follower(max_gap)
        self._looks = 0  # of this shot
        self._seen: _Seen | None = None  # in this shot

    def skip(self) -> None:
        """Skip the next frame without searching it for faces."""
        self._follower.add([])

    def look(self, index: int, image: np.ndarray, cut: bool = False, last: bool = False) -> None:
        """Search the next frame for faces.

        Args:
            index: the frame's number.
            image: (H, W, 3) uint8 RGB.
            cut: it begins a new shot.
            last: it is the last of its shot.
        """
        if cut:
            self._looks, self._seen = 0, None
        seen, must = self._seen, last or self._looks % self._search_every == 0
        found = None if must or seen is None else self._follow(image, seen.faces)
        faces = self._detector.detect(image) if found is None else found
        chains = self._follower.add(faces, cut)
        for face, chain in zip(faces, chains, strict=True):
            if len(chain.frames) == 1 and seen is not None and not seen.searched:
                self._begin_earlier(chain, face, seen)
            if self._embed is not None and (len(chain.frames) - 1) % self._recognise_every == 0:
                chain.vectors.append(self._embed(image, face))
        self._looks += 1
        self._seen = _Seen(index, image, faces, found is None)

    def chains(self) -> list[Chain]:
        """Return all chains so far."""
        return self._follower.chains()

    def _follow(self, image: np.ndarray, faces: list[Face]) -> list[Face] | None:
        """Find all faces again in the next frame; None: one of them is not certain."""
        found: list[Face] = []
        for face in faces:
            again = self._detector.follow(image, face)
            # Two tracks that have met count as one.
            if again is None or any(box_overlap(again.box, other.box) > _ONE for other in found):
                return None
            found.append(again)
        return found

    def _begin_earlier(self, chain: Chain, face: Face, seen: _Seen) -> None:
        before = self._detector.follow(seen.image, face)
        if before is not None and all(box_overlap(before.box, other.box) < _ONE for other in seen.faces):
            chain.frames.insert(0, seen.index)
            chain.faces.insert(0, before)
