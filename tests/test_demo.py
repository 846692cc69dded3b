"""The demo makes its own sample and every file it promises."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ipfvr.core.config import load_config
from ipfvr.core.errors import run_verb
from ipfvr.data import sample
from ipfvr.demo import __main__ as demo
from ipfvr.demo import run as work
from ipfvr.faces.align import apply, crop_matrix, face_template
from ipfvr.video.reader import read_frames
from ipfvr.video.strips import LABEL_HEIGHT, show, side_by_side, strip
from ipfvr.video.writer import write_picture, write_video


def test_the_portrait_has_the_face_where_the_sample_says() -> None:
    """OpenCV's own cascade finds one face, around the given landmarks."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    x, y, w, h = max(cascade.detectMultiScale(sample.portrait(), minNeighbors=8), key=lambda box: box[2])
    corner, opposite = np.array([x, y]), np.array([x + w, y + h])
    assert (corner < sample.LANDMARKS).all()
    assert (opposite > sample.LANDMARKS).all()


def test_the_camera_keeps_the_face_in_the_crop_and_never_stands_still() -> None:
    size, frames = 128, 48
    matrices = [sample.camera(i, frames, size) for i in range(frames)]
    points = np.stack([apply(m, face_template(size)) for m in matrices])
    assert points.min() > 0
    assert points.max() < size
    steps = np.linalg.norm(np.diff(points, axis=0), axis=2).mean(1)
    assert steps.min() > 0.1
    assert steps.max() < 3  # pixels a frame: a hand-held camera, not a jump
    aligned = apply(crop_matrix(sample.LANDMARKS, size), sample.LANDMARKS)
    assert np.abs(aligned - face_template(size)).max() < 0.05 * size


def test_the_sample_repeats_and_moves() -> None:
    clip = sample.sample_clip(4, 64)
    assert clip.shape == (4, 64, 64, 3)
    assert np.array_equal(clip, sample.sample_clip(4, 64))
    assert all(np.abs(a.astype(int) - b).mean() > 1 for a, b in itertools.pairwise(clip))


def test_pictures_show_pixels_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    shown = show(image, 32)
    assert np.array_equal(shown[::4, ::4], image)
    pair = side_by_side({"a": image, "b": shown}, 32)
    assert pair.shape == (32 + LABEL_HEIGHT, 64, 3)
    assert np.array_equal(pair[LABEL_HEIGHT:, :32], pair[LABEL_HEIGHT:, 32:])
    rows = strip({"a": image[None].repeat(3, 0), "a much longer name": shown[None].repeat(3, 0)}, [0, 2], 32)
    assert rows.shape == (64, LABEL_HEIGHT + 64, 3)


def test_the_demo_leaves_what_it_promises(tmp_path: Path) -> None:
    """The whole way with random tiny networks: the numbers mean nothing, the files must be there and fit."""
    config = load_config(overrides=["preset=tiny", "device=cpu"])
    size, scale, frames = config.video.size, config.video.scale, 5
    text = work.run(tmp_path / "out", config, frames, "heavy")
    promised = [line.split()[0] for line in work.where(tmp_path / "out").splitlines()]
    assert len(promised) == 8
    assert all(Path(path).stat().st_size > 0 and path in text for path in promised)
    names = ("original", "low_quality", "restored", "no_reference")
    clips = {name: read_frames(tmp_path / "out" / f"{name}.mp4") for name in names}
    side = size // scale
    assert clips["low_quality"].shape == (frames, side, side, 3)
    assert clips["restored"].shape == clips["no_reference"].shape == clips["original"].shape == (frames, size, size, 3)
    assert read_frames(tmp_path / "out" / "comparison.mp4").shape[1:] == (work.TILE + LABEL_HEIGHT, 5 * work.TILE, 3)
    report = json.loads((tmp_path / "out" / "restored.json").read_text())
    assert report["frames"] == frames
    assert "reference.png" in json.dumps(report)
    rows = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert [cell.strip() for cell in rows[0].split("|")][2:5] == ["bicubic", "no reference", "with reference"]
    psnr = next(row for row in rows if "PSNR" in row)
    assert psnr.split("|")[5].strip() in ("bicubic", "no reference", "with reference", "no reference, with reference")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<video ") == 4
    assert page.count("<img ") == 2  # the strip and the curve
    assert "positive prompt" in page
    assert "Eileen Collins" in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize("side", [256, 24])
def test_a_visitors_video_is_never_degraded(tmp_path: Path, side: int) -> None:
    """Sharp or not, it is restored as it came, and there is no original that could look better."""
    sharp = sample.sample_clip(48, 256)[:4]
    small = np.stack([cv2.resize(cv2.resize(f, (side, side), interpolation=cv2.INTER_AREA), (256, 256)) for f in sharp])
    write_video(tmp_path / "own.mp4", small, 24, 8)
    write_picture(tmp_path / "me.png", sample.portrait())
    out = tmp_path / "out"
    out.mkdir()
    for name in work.FILES:
        (out / name).write_text("of the run before, about somebody else")
    given = ["--video", str(tmp_path / "own.mp4"), "--output", str(out), "--frames", "3", "preset=tiny", "device=cpu"]
    demo.main([*given, "--reference", str(tmp_path / "me.png"), "people.same=-1"])
    assert {path.name for path in out.iterdir()} == {"restored.mp4", "restored.json", "index.html"}
    report = json.loads((out / "restored.json").read_text())
    assert report["input"] == str(tmp_path / "own.mp4")
    assert report["frames"] == report["restored"] == 3
    page = (out / "index.html").read_text()
    assert page.count("class=slider") == 3
    assert "me.png" in page
    assert "original" not in page.split("</style>")[1]


def test_without_an_independent_judge_the_shipped_one_scores_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(overrides=["preset=mini"])
    monkeypatch.setattr(work, "find", lambda entry: tmp_path)
    assert work.judge(config) == (config, "")
    monkeypatch.setattr(work, "find", lambda entry: None)
    judging, remark = work.judge(config)
    assert judging.weights.recogniser == "mini/dlib"
    assert "it flatters" in remark
    assert "weights fetch mobilefacenet" in remark


def test_what_a_visitor_gets_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    write_picture(tmp_path / "me.png", sample.portrait())
    write_video(tmp_path / "grey.mp4", np.full((3, 64, 64, 3), 90, np.uint8), 24, 8)
    for given, says in (
        (["--output", str(tmp_path / "file")], "is a file"),
        (["--reference", "a.jpg"], "--reference needs --video"),
        (["--frames", "0"], "must be 1 or more"),
        (["--video", str(tmp_path / "none.mp4")], "none.mp4"),
        (["--video", str(tmp_path / "grey.mp4"), "--level", "light"], "leave --level out"),
        (["--video", str(tmp_path / "grey.mp4"), "--reference", str(tmp_path / "me.png")], "it shows no face"),
        (["--level", "real"], "the sample is sharp"),
        (["--video", str(tmp_path / "grey.mp4"), "--reference", "none.png"], "no reference picture none.png"),
        (["--level", "awful"], "awful"),
    ):
        output = [] if "--output" in given else ["--output", str(tmp_path / "out")]
        assert run_verb(demo.main, [*given, *output, "preset=tiny"]) == 2
        said = capsys.readouterr().err.split("error: ")
        assert len(said) == 2
        assert len(said[1].strip().splitlines()) == 1
        assert says in said[1]
    assert (tmp_path / "file").read_text() == "mine"
