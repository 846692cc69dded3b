"""Matching the tracks of a video with people by their reference pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.options import PeopleConfig
from ipfvr.faces.detect import Detector, Face
from ipfvr.faces.group import group_tracks
from ipfvr.faces.recognise import Recogniser, embed_faces, reference_face
from ipfvr.faces.track import FaceTrack
from ipfvr.video.reader import read_image
from ipfvr.weights.catalogue import LIKENESS, LIKENESS_OF_OTHERS

_MARGIN = 1.0  # of the landmarks' extent: what a face is cut out with, so that a whole frame is not converted


@dataclass(frozen=True)
class PeopleMatches:
    """The people found in a video.

    Attributes:
        names: for each track the person's name; None: none of the people.
        cosines: for each track the mean cosine to each person.
    """

    names: list[str | None]
    cosines: list[dict[str, float]]


def face_vector(image: np.ndarray, face: Face, recogniser: Recogniser) -> np.ndarray:
    """Return a face of a frame (H, W, 3) uint8 as the recogniser's vector (D,) of length 1."""
    points = face.landmarks.astype(np.float64)
    low, high = points.min(0), points.max(0)
    reach = _MARGIN * (high - low).max()
    left, top = np.maximum(np.floor(low - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(high + reach) + 1, image.shape[1::-1]).astype(int)
    if left >= right or top >= bottom:  # landmarks outside of the picture
        left, top, right, bottom = 0, 0, image.shape[1], image.shape[0]
    part = np.ascontiguousarray(image[top:bottom, left:right])
    return embed_faces(part[None], (points - (left, top))[None], recogniser)[0].numpy()


def person_vector(pictures: Sequence[Path], detector: Detector, recogniser: Recogniser, choose: int = 0) -> np.ndarray:
    """Return a person's vector (D,) of length 1: the mean over reference pictures.

    Raises:
        UserError: as :func:`ipfvr.faces.recognise.reference_face`.
    """
    vectors = []
    for path in pictures:
        image = read_image(path)
        vectors.append(face_vector(image, reference_face(image, detector, choose or None, path), recogniser))
    mean = np.mean(vectors, axis=0)
    return mean / np.linalg.norm(mean)


def with_bounds(config: PeopleConfig, recogniser: str) -> PeopleConfig:
    """Return the options with the bounds of the recogniser of that name in place of zeros.

    A bound that was given for ``same`` holds for ``alone``, too.
    """
    own = LIKENESS.get(recogniser, LIKENESS_OF_OTHERS)
    return replace(
        config,
        same=config.same or own.same,
        alone=config.alone or config.same or own.alone,
        distinct=config.distinct or own.distinct,
    )


def check_distinct(people: Mapping[str, np.ndarray], config: PeopleConfig) -> None:
    """Refuse two names for one face.

    Args:
        people: each person's vector (D,) of length 1.
        config: ``distinct`` is the bound; see :func:`with_bounds`.

    Raises:
        UserError: two people's references are more alike than the bound.
    """
    for (a, first), (b, second) in combinations(people.items(), 2):
        cosine = float(first @ second)
        if cosine > config.distinct:
            raise UserError(
                f"the references of {a} and {b} look like one person (cosine {cosine:.2f}): give all of a person's "
                f"pictures one name, or raise people.distinct ({config.distinct})"
            )


def match_people(tracks: Sequence[FaceTrack], people: Mapping[str, np.ndarray], config: PeopleConfig) -> PeopleMatches:
    """Give each track the person it is most like.

    The most similar pair is matched first. One person cannot be two tracks at one time; a face that leaves and returns
    is a new track, matched anew. If one person is named and the video shows one face, a lower bound suffices: blur
    lowers the likeness, and nobody else can be meant.

    Args:
        tracks: with vectors.
        people: each person's vector (D,) of length 1.
        config: ``same`` is the bound of the mean cosine, ``alone`` that of the only face; see :func:`with_bounds`.

    Raises:
        UserError: a person is found in no track; the line names the best cosine.
    """
    cosines = [
        {n: float((t.vectors @ v).mean()) if len(t.vectors) else -1.0 for n, v in people.items()} for t in tracks
    ]
    names: list[str | None] = [None] * len(tracks)
    pairs = sorted(
        ((cosine, index, name) for index, row in enumerate(cosines) for name, cosine in row.items()),
        key=lambda pair: (-pair[0], pair[1]),
    )
    for cosine, index, name in pairs:
        track = tracks[index]
        elsewhere = any(
            names[i] == name and other.start < track.stop and track.start < other.stop for i, other in enumerate(tracks)
        )
        if cosine >= config.same and names[index] is None and not elsewhere:
            names[index] = name
    if len(people) == 1 and not any(names) and _only_face(tracks, people, config):
        names = list(people) * len(tracks)
    for name in people:
        if name not in names:
            best = max((row[name] for row in cosines), default=None)
            raise UserError(
                f"{name or 'the person of the reference'} is not in the video: "
                + ("it shows no face" if best is None else _nearest(best, len(tracks), config.same))
            )
    return PeopleMatches(names, cosines)


def _only_face(tracks: Sequence[FaceTrack], people: Mapping[str, np.ndarray], config: PeopleConfig) -> bool:
    """Return whether all tracks show one face that is like the one person who is named."""
    if len(group_tracks([(0, track) for track in tracks], config.same)) != 1:
        return False
    vectors, (person,) = np.concatenate([track.vectors for track in tracks]), people.values()
    return len(vectors) > 0 and float((vectors @ person).mean()) >= config.alone


def _nearest(best: float, faces: int, bound: float) -> str:
    """Return the likeness of the most similar face, and advice, as text."""
    advice = "give a picture of the person that is larger, sharper or more from the front"
    if best > 0:  # below it, people.same would take anybody
        advice += f", or accept this one with people.same={max(0.0, best - 0.005):.2f}"
    nearest = f"the most similar of {faces} faces has" if faces > 1 else "the only face has"
    return f"{nearest} a likeness of {best:.2f}, the bound is {bound:g}; {advice}"
