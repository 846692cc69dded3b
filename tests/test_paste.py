"""Squares put back, cuts found, people matched: small theorems."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ipfvr.core.errors import UserError
from ipfvr.core.options import FacesConfig, PeopleConfig
from ipfvr.faces.align import apply, crop, crop_matrix, enlarged, face_template
from ipfvr.faces.detect import Face
from ipfvr.faces.paste import blend_mask, change_of, paste
from ipfvr.faces.people import check_distinct, match_people, with_bounds
from ipfvr.faces.track import FaceTrack, main_tracks, scan_video
from ipfvr.video.cuts import CutDetector
from ipfvr.weights.catalogue import LIKENESS

SIZE = 128


def smooth_picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(30, 220, (height // 24, width // 24, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def somewhere(side: float, angle: float, x: float, y: float) -> np.ndarray:
    """The transform of a face whose square is ``side`` pixels wide, turned, with its corner at (x, y)."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return crop_matrix(face_template(1) * side @ turn.T + (x, y), SIZE)


@pytest.mark.parametrize(("side", "angle", "x", "y"), [(50, 0, 90, 60), (128, 0.3, 120, 40), (230, -0.2, 60, 50)])
def test_what_was_cut_out_fits_back_in(side: float, angle: float, x: float, y: float) -> None:
    frame = smooth_picture(400, 300)
    matrix = somewhere(side, angle, x, y)
    low = crop(frame, matrix, SIZE)
    result = paste(frame, low, low, matrix)
    assert np.abs(result.astype(int) - frame).max() <= 4
    other = np.where(np.indices((SIZE, SIZE)).sum(0)[..., None] // 8 % 2, low, 255 - low)
    changed = (paste(frame, other, low, matrix) != frame).any(-1)
    inside = np.argwhere(changed)[:, ::-1]
    places = apply(matrix, inside)
    assert len(inside) > 0.3 * side * side
    assert places.min() > 0.03 * SIZE
    assert places.max() < 0.98 * SIZE


def test_a_square_at_or_beyond_the_border_of_the_frame() -> None:
    frame = smooth_picture(200, 150)
    for x, y in ((-40, -30), (150, 100), (400, 400), (-300, 0)):
        matrix = somewhere(100, 0.1, x, y)
        low = crop(frame, matrix, SIZE)
        result = paste(frame, low, low, matrix)
        assert np.abs(result.astype(int) - frame).max() <= 4


def test_colours_are_those_of_the_crop() -> None:
    low = smooth_picture(SIZE, SIZE)
    shifted = np.clip(low.astype(int) + np.array([25, -20, 15]), 0, 255).astype(np.uint8)
    assert np.abs(change_of(shifted, low)).mean() < 1.5
    rng = np.random.default_rng(1)
    detail = rng.integers(-20, 21, low.shape)
    sharp = np.clip(low.astype(int) + detail, 0, 255).astype(np.uint8)
    kept = change_of(sharp, low)
    assert np.corrcoef(kept.ravel(), detail.ravel())[0, 1] > 0.97  # what is fine is the restored square's


def sharp_frame(seed: int = 0) -> np.ndarray:
    """A frame with detail finer than any square."""
    noise = np.random.default_rng(seed).integers(-25, 26, (300, 400, 3))
    return np.clip(smooth_picture(400, 300).astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", [60, 128, 200, 290])
def test_the_sources_detail_stays_whatever_the_size_of_the_face(side: float) -> None:
    """A network that blurs its square takes no more than the square can hold from the frame."""
    frame, matrix = sharp_frame(), somewhere(side, 0.1, 60, 5)
    low = crop(frame, matrix, SIZE)
    waves = 12 * np.sin(np.arange(SIZE) / 6)[:, None, None]
    brighter = np.clip(low.astype(int) + waves, 0, 255).astype(np.uint8)
    result = paste(frame, brighter, low, matrix)
    fine = [cv2.Laplacian(f.astype(np.float32), cv2.CV_32F) for f in (result, frame)]
    touched = np.abs(result.astype(int) - frame).sum(-1) > 0
    assert touched.any()
    assert fine[0][touched].var() > 0.95 * fine[1][touched].var()


@pytest.mark.parametrize("side", [50, 100, 128])
def test_up_to_the_squares_own_size_the_face_is_the_restored_one(side: float) -> None:
    """Where the square is as large as its place or larger, pasting the change and pasting the square are the same."""
    frame = smooth_picture(400, 300)
    matrix = somewhere(side, 0.0, 100, 60)
    low, other = crop(frame, matrix, SIZE), smooth_picture(SIZE, SIZE, seed=5)
    restored = np.clip(low + (other.astype(float) - 128) / 4, 0, 255).astype(np.uint8)
    result = paste(frame, restored, low, matrix)
    wanted = low + change_of(restored, low)
    middle = slice(SIZE // 2 - 20, SIZE // 2 + 20)
    found = crop(result, matrix, SIZE)[middle, middle]
    assert np.abs(found - wanted[middle, middle]).mean() < 1.5


def test_strength_scales_the_change_and_none_leaves_every_byte() -> None:
    frame = sharp_frame()
    matrix = somewhere(150, 0.2, 80, 50)
    low = crop(frame, matrix, SIZE)
    restored = smooth_picture(SIZE, SIZE, seed=3)
    assert np.array_equal(paste(frame, restored, low, matrix, 0.0), frame)
    changes = [paste(frame, restored, low, matrix, s).astype(float) - frame for s in (0.25, 0.5)]
    free = (np.abs(changes[1]) > 8) & (frame > 90) & (frame < 160)  # far from black and white
    assert np.abs(changes[1][free] / changes[0][free] - 2).mean() < 0.25


def test_a_frame_made_larger_holds_the_same_points() -> None:
    matrix = somewhere(70, 0.2, 40, 30)
    points = np.array([[10.0, 20.0], [80.5, 33.25]])
    for factor in (1, 2, 4):
        large = factor * points + (factor - 1) / 2
        assert np.allclose(apply(enlarged(matrix, factor), large), apply(matrix, points))


def test_the_mask_lies_inside_the_square() -> None:
    mask = blend_mask(SIZE)
    assert mask.max() == 1
    assert max(mask[:5].max(), mask[-3:].max(), mask[:, :8].max(), mask[:, -8:].max()) == 0
    assert all(mask[y, x] > 0.95 for x, y in np.rint(face_template(SIZE)).astype(int))


def test_cuts_are_found_and_motion_is_none() -> None:
    wide = smooth_picture(900, 180)
    other = smooth_picture(900, 180, seed=5)
    detector = CutDetector()
    shot = [wide[:, 6 * t : 6 * t + 320] for t in range(20)]
    frames = [*shot, *[other[:, 100:420]] * 5, *shot, *[image // 2 + 5 * t for t, image in enumerate(shot)]]
    assert [i for i, image in enumerate(frames) if detector.is_cut(image)] == [20, 25, 45]


def track(start: int, stop: int, vector: list[float], area: float = 100.0) -> FaceTrack:
    unit = np.array(vector) / np.linalg.norm(vector)
    landmarks = np.repeat(face_template(50)[None], stop - start, 0)
    return FaceTrack(start, landmarks, np.ones(stop - start, bool), area, area * (stop - start), unit[None])


def test_the_most_similar_track_is_the_person() -> None:
    anna, ben = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    tracks = [track(0, 9, [1, 0.2, 0]), track(0, 9, [1, 0.4, 0.1]), track(9, 20, [0.1, 1, 0]), track(30, 40, [1, 0, 0])]
    cast = match_people(tracks, {"anna": anna, "ben": ben}, PeopleConfig(same=0.5))
    # The second is like anna too, but she is the first at that time, and it is not like ben.
    assert cast.names == ["anna", None, "ben", "anna"]
    says = r"cleo is not in the video: the most similar of 4 faces has a likeness of 0\.09, the bound is 0\.5; .*=0\.09"
    with pytest.raises(UserError, match=says):
        match_people(tracks, {"cleo": np.array([0, 0, 1.0])}, PeopleConfig(same=0.5))
    with pytest.raises(UserError, match="it shows no face"):
        match_people([], {"anna": anna}, PeopleConfig())
    check_distinct({"anna": anna, "ben": ben}, PeopleConfig(distinct=0.5))
    with pytest.raises(UserError, match=r"anna and ben look like one person \(cosine 0.9"):
        check_distinct({"anna": anna, "ben": np.array([0.95, 0.31, 0])}, PeopleConfig(distinct=0.5))


def test_bounds_are_the_recognisers_where_none_are_given() -> None:
    for name in ("mobilefacenet", "mini/recogniser"):
        own = with_bounds(PeopleConfig(), name)
        assert (own.same, own.distinct) == (LIKENESS[name].same, LIKENESS[name].distinct)
        assert 0 < own.alone < own.same < own.distinct < 1
    assert with_bounds(PeopleConfig(), "another") == with_bounds(PeopleConfig(), "mobilefacenet")
    given = with_bounds(PeopleConfig(same=0.1), "mini/recogniser")
    assert (given.same, given.alone) == (0.1, 0.1)
    assert with_bounds(PeopleConfig(same=0.1, alone=0.05), "mini/recogniser").alone == 0.05


def test_the_only_face_of_a_video_may_be_less_like_the_one_person_named() -> None:
    anna, bounds = np.array([1.0, 0, 0]), PeopleConfig(same=0.9, alone=0.8)
    blurred, stranger = [0.85, 0.53, 0], [0, 0, 1.0]
    tracks = [track(0, 9, blurred), track(12, 20, blurred)]
    assert match_people(tracks, {"anna": anna}, bounds).names == ["anna", "anna"]
    for others in ([track(3, 8, blurred)], [track(30, 40, stranger)]):  # somebody else, then or later
        with pytest.raises(UserError, match=r"the most similar of 3 faces has a likeness of 0\.85"):
            match_people([*tracks, *others], {"anna": anna}, bounds)
    with pytest.raises(UserError, match=r"likeness of 0\.85, the bound is 0\.9"):
        match_people(tracks[:1], {"anna": anna, "ben": np.array([0, 1.0, 0])}, bounds)
    with pytest.raises(UserError, match=r"likeness of 0\.85, the bound is 0\.9"):
        match_people(tracks[:1], {"anna": anna}, PeopleConfig(same=0.9, alone=0.9))


def test_main_tracks_share_no_time() -> None:
    anna = [1.0, 0, 0]
    tracks = [track(0, 9, anna), track(5, 30, anna, 200), track(30, 34, anna, 5), track(31, 40, anna)]
    assert [t.start for t in main_tracks(tracks)] == [5, 31]


class Dots:
    """A face is a bright square that moves; it is followed where it has not moved far, and no other lies there."""

    def __init__(self, certain: bool = True) -> None:
        self.name, self.weights, self.certain, self.searches = "dots", {}, certain, 0

    def detect(self, image: np.ndarray) -> list[Face]:
        self.searches += 1
        grey = (image[..., 0] > 128).astype(np.uint8)
        boxes = [row[:4] for row in cv2.connectedComponentsWithStats(grey)[2][1:]]
        return [Face(np.float32(b), 1.0, np.float32(face_template(int(b[2])) + b[:2])) for b in boxes]

    def follow(self, image: np.ndarray, face: Face) -> Face | None:
        searches, near = self.searches, [f for f in self.detect(image) if np.abs(f.box - face.box).max() < 12]
        self.searches = searches
        return near[0] if near and self.certain else None


class Shown:
    """A frame of :func:`dots`."""

    def __init__(self, index: int) -> None:
        self.image = np.zeros((180, 320, 3), np.uint8)
        self.image[40:70, 20 + 2 * index : 50 + 2 * index] = 255
        if 9 <= index < 22:
            self.image[120:150, 200 + index : 230 + index] = 255


def test_followed_faces_are_those_that_are_searched_everywhere() -> None:
    frames = [Shown(index) for index in range(31)]
    found, searches = [], []
    for detector, every in ((Dots(), 1), (Dots(), 2), (Dots(certain=False), 2)):
        tracks = scan_video(frames, detector, FacesConfig(search_every=every, max_gap=2), every=3).tracks
        found.append([(t.start, t.stop, np.round(t.landmarks, 3).tolist()) for t in tracks])
        searches.append(detector.searches)
    assert [(start, stop) for start, stop, _ in found[0]] == [(0, 31), (9, 22)]
    assert found[0] == found[1] == found[2]
    assert searches[0] == 11
    assert searches[1] <= 7  # one more where the second face leaves
    assert searches[2] == 11
