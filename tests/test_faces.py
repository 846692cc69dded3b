"""Detection, tracking and the crop verb."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from ipfvr import crop as verb
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.options import FacesConfig
from ipfvr.faces.align import (
    crop,
    crop_matrix,
    face_template,
    invert,
)
from ipfvr.faces.detect import CenterFaceDetector, Face, YuNetDetector, box_overlap, make_detector
from ipfvr.faces.landmarks import (
    PATCH,
    LandmarkNet,
    load_landmarks,
)
from ipfvr.faces.track import build_track, smooth_landmarks, track_video
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter
from ipfvr.weights import registry

SHARED = Path(__file__).parents[2] / "shared"
SHIPPED = FacesConfig(detector="centerface")
# The portrait's landmarks as read off by eye, pixels.
ASTRONAUT = np.array([(203, 104), (247, 104), (223, 128), (204, 144), (242, 144)])


@pytest.fixture(scope="module")
def shipped():
    return CenterFaceDetector(SHIPPED)


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


def test_smoothing_keeps_rest_and_straight_motion():
    line = np.arange(40)[:, None, None] * np.ones((1, 5, 2)) * [1.5, -0.5] + 30
    assert np.allclose(smooth_landmarks(line, 2.0), line, atol=1e-10)
    assert np.allclose(smooth_landmarks(np.full((7, 5, 2), 4.0), 5.0), 4.0)


def test_smoothing_is_the_gaussian_mean_inside():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 5, 2))
    d = np.arange(-8, 9)
    w = np.exp(-(d**2) / 8)
    wanted = np.tensordot(w / w.sum(), noise[22:39], axes=1)
    assert np.allclose(smooth_landmarks(noise, 2.0)[30], wanted)
    assert smooth_landmarks(noise, 2.0)[1:-1].std() < 0.6 * noise.std()


def test_smoothing_off_and_too_short():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(9, 5, 2))
    assert np.array_equal(smooth_landmarks(noise, 0), noise)
    assert np.allclose(smooth_landmarks(noise, 1e-3), noise)
    assert np.array_equal(smooth_landmarks(noise[:2], 3), noise[:2])
    with pytest.raises(ValueError, match="negative"):
        smooth_landmarks(noise, -1)


def face(x, y, side=100.0, score=0.9):
    points = face_template(int(side)) + np.array([x, y])
    return Face(np.array([x, y, side, side], np.float32), score, points.astype(np.float32))


def test_gap_is_filled_along_a_straight_line():
    found = [[face(10 + 3 * t, 20)] for t in range(20)]
    found[8] = found[9] = found[10] = []
    track = build_track(found, FacesConfig(smoothing=2.0, max_gap=3))
    assert track.present.all()
    assert list(np.flatnonzero(~track.detected)) == [8, 9, 10]
    assert np.allclose(track.landmarks[9], face(37, 20).landmarks, atol=1e-4)


def test_longer_gap_stays_open_and_is_not_smoothed_over():
    found = [[face(10 + 3 * t, 20)] for t in range(30)]
    for t in range(12, 16):
        found[t] = []
    track = build_track(found, FacesConfig(smoothing=2.0, max_gap=3))
    assert list(np.flatnonzero(~track.present)) == [12, 13, 14, 15]
    assert np.isnan(track.landmarks[12:16]).all()
    assert track.matrix(13, 128) is None
    assert track.scenes[11] != track.scenes[16]


def test_a_cut_is_not_smoothed_over():
    found = [[face(10, 20)] for _ in range(12)] + [[face(400, 200)] for _ in range(12)]
    track = build_track(found, FacesConfig(smoothing=3.0))
    assert np.allclose(track.landmarks[11], face(10, 20).landmarks, atol=1e-4)
    assert np.allclose(track.landmarks[12], face(400, 200).landmarks, atol=1e-4)
    assert track.scenes[11] != track.scenes[12]


def test_the_larger_of_two_people_is_followed_even_when_listed_second():
    found = [[face(300, 50, 60, 0.99), face(10 + t, 20, 120, 0.8)] for t in range(20)]
    found[5] = [face(300, 50, 60, 0.99)]  # the main face is missed once: the other must not step in
    track = build_track(found, FacesConfig(smoothing=0))
    assert track.present.all()
    assert np.allclose(track.landmarks[5], face(15, 20, 120).landmarks, atol=1e-4)


def test_flashes_are_left_out_and_no_face_is_no_track():
    found = [[face(10, 20)] for _ in range(10)] + [[] for _ in range(20)]
    found[25] = [face(500, 300, 150)]
    track = build_track(found, FacesConfig())
    assert list(np.flatnonzero(track.present)) == list(range(10))
    assert not build_track([[], [], []], FacesConfig()).present.any()
    assert build_track([], FacesConfig()).frames == 0


def test_box_overlap():
    a = np.array([0, 0, 10, 10.0])
    assert box_overlap(a, a) == 1
    assert box_overlap(a, np.array([5, 0, 10, 10.0])) == pytest.approx(1 / 3)
    assert box_overlap(a, np.array([20, 0, 10, 10.0])) == 0


def test_what_is_shipped_finds_the_astronaut(shipped, astronaut):
    faces = shipped.detect(astronaut)
    assert len(faces) == 1
    assert np.abs(faces[0].landmarks - ASTRONAUT).max() < 6
    assert 0.6 <= faces[0].score <= 1
    assert list(shipped.weights) == ["centerface", "landmarks"]


def test_landmarks_move_with_the_picture(shipped, astronaut):
    at = shipped.detect(astronaut)[0].landmarks
    moved = shipped.detect(np.roll(astronaut, (23, 31), axis=(0, 1)))[0].landmarks
    assert np.abs(moved - at - (31, 23)).max() < 1.5


def test_landmarks_are_in_whole_frame_pixels(shipped, astronaut):
    at = shipped.detect(astronaut)[0].landmarks
    large = cv2.resize(astronaut, (1500, 1500), interpolation=cv2.INTER_CUBIC)
    assert np.abs(shipped.detect(large)[0].landmarks * 512 / 1500 - at).max() < 2


def test_degraded_face_is_still_found(shipped, astronaut):
    small = cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA)
    noisy = np.clip(small + np.random.default_rng(0).normal(0, 10, small.shape), 0, 255).astype(np.uint8)
    poor = cv2.resize(noisy, (512, 512), interpolation=cv2.INTER_CUBIC)
    assert np.abs(shipped.detect(poor)[0].landmarks - ASTRONAUT).max() < 8


@pytest.mark.parametrize("name", ["coffee", "chelsea", "immunohistochemistry"])
def test_no_face_where_there_is_none(shipped, name):
    assert shipped.detect(getattr(skimage.data, name)()) == []


def test_tiny_and_flat_pictures_have_no_face(shipped):
    assert shipped.detect(np.zeros((5, 7, 3), np.uint8)) == []
    assert shipped.detect(np.full((200, 300, 3), 128, np.uint8)) == []


def test_without_yunets_file(monkeypatch):
    monkeypatch.setattr(registry, "search_folders", lambda package="": [])
    assert make_detector(FacesConfig(detector="auto")).name == "centerface"
    with pytest.raises(UserError, match=r"yunet_n_640_640\.onnx"):
        make_detector(FacesConfig(detector="yunet"))


def test_files_of_something_else(tmp_path, capfd):
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"not a network")
    with pytest.raises(UserError, match="YuNet"):
        YuNetDetector(wrong, FacesConfig())
    assert capfd.readouterr().err == ""
    with pytest.raises(UserError, match="landmark network"):
        load_landmarks(wrong)
    with pytest.raises(UserError, match="installation is incomplete"):
        load_landmarks(tmp_path / "none.safetensors")


def test_landmark_network_ignores_exposure():
    torch.manual_seed(0)
    net = LandmarkNet().eval()
    patch = torch.rand(3, 1, PATCH, PATCH) * 200
    with torch.no_grad():
        a, b = net(patch), net(patch * 0.6 + 40)
    assert torch.allclose(a[0], b[0], atol=1e-2)
    assert a[0].shape == (3, 5, 2)
    assert a[1].shape == (3,)


def test_yunet_and_centerface_agree(shipped, astronaut):
    if registry.find(registry.ENTRIES["yunet"]) is None:
        pytest.skip("YuNet's file is not here")
    ours = shipped.detect(astronaut)[0].landmarks
    for refine, tolerance in ((False, 8), (True, 2)):
        found = make_detector(FacesConfig(detector="yunet", refine=refine)).detect(astronaut)
        assert len(found) == 1
        assert np.abs(found[0].landmarks - ours).max() < tolerance


@dataclass
class Picture:
    image: np.ndarray


def test_real_clip_is_followed(shipped):
    clip = SHARED / "data/clips/id06/id06_c01.mp4"
    if not clip.is_file():
        pytest.skip("no ../shared/data here")
    frames = [frame for frame in VideoReader(clip) if frame.index % 15 == 0]
    done = []
    track = track_video(frames, shipped, SHIPPED, done.append)
    assert track.present.all()
    assert done == list(range(1, len(frames) + 1))
    eyes = np.linalg.norm(track.landmarks[:, 0] - track.landmarks[:, 1], axis=1)
    assert eyes.std() < 0.1 * eyes.mean()


@pytest.fixture(scope="module")
def film(tmp_path_factory, astronaut):
    """Twelve frames of a moving portrait, the last three without a face, at uneven times."""
    path = tmp_path_factory.mktemp("film") / "in.mp4"
    with VideoWriter(path, 320, 240, Fraction(25), Fraction(1, 1000)) as writer:
        for i in range(12):
            image = (
                astronaut[20 : 20 + 240, 40 + 4 * i : 40 + 4 * i + 320]
                if i < 9
                else np.full((240, 320, 3), 90, np.uint8)
            )
            writer.write(np.ascontiguousarray(image), 40 * i + (i % 3))
    return path


def test_crop_verb(film, tmp_path):
    out = tmp_path / "crop.mp4"
    pairs = ["preset=tiny", "video.size=96", "faces.detector=centerface", "faces.max_gap=1"]
    assert run_verb(verb.main, [str(film), str(out), *pairs]) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["without_face"] == [9, 10, 11]
    assert (report["frames"], report["cropped"], report["detector"]) == (12, 9, "centerface")
    frames, source = list(VideoReader(out)), list(VideoReader(film))
    assert [frame.time for frame in frames] == pytest.approx([frame.time for frame in source[:9]])
    for frame, record in zip(frames, report["transforms"], strict=True):
        assert frame.image.shape == (96, 96, 3)
        matrix = np.array(record["matrix"])
        assert np.allclose(invert(matrix), record["inverse"])
        assert np.allclose(crop_matrix(np.array(record["landmarks"]), 96), matrix)
        again = crop(source[record["frame"]].image, matrix, 96)
        assert np.abs(again.astype(int) - frame.image).mean() < 4  # H.264's loss


def test_crop_verb_refuses(film, tmp_path, capsys):
    blank = tmp_path / "blank.mp4"
    with VideoWriter(blank, 64, 64, 25) as writer:
        for _ in range(3):
            writer.write(np.full((64, 64, 3), 90, np.uint8))
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    out = tmp_path / "out.mp4"
    for arguments, message in [
        ([str(blank), str(out), "faces.detector=centerface"], "no face found"),
        ([str(tmp_path / "none.mp4"), str(out)], "none.mp4"),
        ([str(text), str(out)], "text.mp4"),
        ([str(film), str(film)], "is the input itself"),
        ([str(film), str(tmp_path)], "it is a folder"),
        ([str(film), str(out), "faces.detecter=yunet"], "faces.detector"),
        ([str(film), str(out), "faces.detector=none"], "all are auto, yunet, centerface, insightface"),
    ]:
        assert run_verb(verb.main, [*arguments, "preset=tiny"]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert message in error[-1]
        assert "Traceback" not in "".join(error)
    assert not out.exists()
    assert not out.with_suffix(".json").exists()


def test_refine_is_an_option():
    assert load_config(None, ["preset=tiny", "faces.refine=false"]).faces.refine is False
