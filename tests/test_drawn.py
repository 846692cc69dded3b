"""The three people of the sample: they differ from one another, and so do their scenes."""

from __future__ import annotations

import numpy as np
import pytest

from ipfvr.core.options import FacesConfig
from ipfvr.data.drawn import ASTRONAUT, NARROW, SITTERS, WIDE, film
from ipfvr.data.sample import portrait, sample_clip
from ipfvr.faces.align import face_template
from ipfvr.faces.detect import make_detector
from ipfvr.faces.recognise import embed_faces, load_recogniser
from ipfvr.metrics.identity import identity_similarity


def test_the_astronaut_is_the_sample_itself() -> None:
    assert np.array_equal(ASTRONAUT.picture, portrait())
    assert np.array_equal(film(ASTRONAUT, 3, 64), sample_clip(3, 64))


@pytest.mark.parametrize("sitter", SITTERS, ids=lambda s: s.name)
def test_landmarks_are_where_a_detector_sees_them(sitter) -> None:
    (face,) = make_detector(FacesConfig(detector="centerface")).detect(sitter.picture)
    eyes = np.linalg.norm(sitter.landmarks[1] - sitter.landmarks[0])
    assert np.abs(face.landmarks - sitter.landmarks).max() < 0.2 * eyes
    assert sitter.landmarks[0, 0] < sitter.landmarks[1, 0], "the left eye of the picture first"


def test_a_scene_is_more_like_its_own_persons_other_scene_than_like_anybody_elses() -> None:
    judge, points = load_recogniser("mini/recogniser"), face_template(128)[None].repeat(2, 0)
    scenes = {
        (sitter.name, later): embed_faces(film(sitter, 60, 128, later)[[0, 40]], points, judge)
        for sitter in SITTERS
        for later in (False, True)
    }

    def likeness(a: tuple, b: tuple) -> float:
        return float(identity_similarity(scenes[a], scenes[b].mean(0)).mean())

    for sitter in SITTERS:
        own = likeness((sitter.name, False), (sitter.name, True))
        others = [likeness((sitter.name, False), (o.name, True)) for o in SITTERS if o is not sitter]
        assert own > max(others) + 0.05
    assert likeness((WIDE.name, False), (NARROW.name, True)) < 0.7


def test_the_other_moment_differs_in_way_light_and_face() -> None:
    first, later = film(ASTRONAUT, 8, 64), film(ASTRONAUT, 8, 64, later=True)
    assert later.mean() < 0.95 * first.mean()
    for frame in later:
        assert min(np.abs(frame.astype(int) - other).mean() for other in first) > 8
