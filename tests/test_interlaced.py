"""Interlaced film is known, made whole or kept, whatever its flags say."""

from __future__ import annotations

import json
from array import array
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from films import HalvesDetector, write_film
from videos import CLIPS, encode, spoil

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.faces.crop_video import crop_video
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.restore import main
from ipfvr.video.interlace import field_order, field_times
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter

INPUTS = CLIPS.parent / "inputs"
FRAMES = 16  # interlaced ones, of twice as many moments
SIZE = (96, 128)


def moments(count: int = 2 * FRAMES, step: int = 2) -> list[np.ndarray]:
    """A picture that drifts by ``step`` pixels from one moment to the next."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (SIZE[0] // 8, (SIZE[1] + count * step) // 8, 3), dtype=np.uint8)
    wide = cv2.resize(wide, (SIZE[1] + count * step, SIZE[0]), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, step * t : step * t + SIZE[1]]) for t in range(count)]


def woven(shown: list[np.ndarray], order: str) -> list[np.ndarray]:
    """Two moments in each frame, the first in the lines of the field that comes first."""
    first, second = (0, 1) if order == "tff" else (1, 0)
    frames = []
    for early, late in zip(shown[::2], shown[1::2], strict=True):
        frame = np.empty_like(early)
        frame[first::2], frame[second::2] = early[first::2], late[second::2]
        frames.append(frame)
    return frames


def film(path: Path, order: str, flag: str = "", images: list[np.ndarray] | None = None, **options: object) -> Path:
    """An interlaced film of 4:4:4, so that fields do not share colours; its flags say ``flag``."""
    given = {"crf": "5", "preset": "veryfast", **({"x264-params": f"{flag}=1"} if flag else {})}
    frames = woven(moments(), order) if images is None else images
    return encode(path, frames, pixel_format="yuv444p", options=given, **options)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


# ---------------------------------------------------------------- known


@pytest.mark.parametrize("flag", ["", "tff", "bff"])
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_fields_are_found_by_looking_whatever_the_flags_say(tmp_path: Path, order: str, flag: str) -> None:
    assert field_order(film(tmp_path / "a.mp4", order, flag)) == (order, not flag)


def test_what_is_flagged_but_not_interlaced_is_left_alone(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", "", "tff", moments(24))
    assert field_order(path) == ("", True)
    reader = VideoReader(path, interlaced="frame")
    assert not reader.notes
    assert all(psnr(frame.image, image) > 35 for frame, image in zip(reader, moments(24), strict=True))


def test_flags_decide_where_nothing_moves(tmp_path: Path) -> None:
    still = [moments(1)[0]] * 12
    assert field_order(film(tmp_path / "a.mp4", "", "tff", still)) == ("tff", False)
    assert field_order(film(tmp_path / "b.mp4", "", "", still)) == ("", False)
    assert field_order(film(tmp_path / "c.mp4", "", "", still[:1])) == ("", False)


def test_a_film_that_begins_with_a_still_is_looked_at_further_on(tmp_path: Path) -> None:
    frames = [moments(1)[0]] * 200 + woven(moments(200, 1), "bff")
    assert field_order(film(tmp_path / "a.mp4", "", "", frames)) == ("bff", True)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips of ../shared/data are not here")
def test_real_clips_are_not_interlaced() -> None:
    clips = sorted(CLIPS.glob("*/*_c01.mp4"))
    assert [clip.name for clip in clips if field_order(clip)[0]] == []


# ---------------------------------------------------------------- made whole


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_each_field_becomes_the_frame_of_its_moment(tmp_path: Path, order: str) -> None:
    path, shown = film(tmp_path / "a.mp4", order), moments()
    combed = [frame.image for frame in VideoReader(path)]
    halves = list(VideoReader(path, interlaced="field"))
    wholes = list(VideoReader(path, interlaced="frame"))
    assert len(halves) == 2 * len(wholes) == 2 * FRAMES
    assert [frame.index for frame in halves] == list(range(2 * FRAMES))
    for number in range(4, 2 * FRAMES - 4):
        near = psnr(halves[number].image, shown[number])
        assert near > 26
        assert near > psnr(combed[number // 2], shown[number]) + 5
        assert near > psnr(halves[number].image, shown[number + 1]) + 5  # not another moment's
    for number in range(2, FRAMES - 2):
        assert psnr(wholes[number].image, shown[2 * number]) > 26


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_times_are_the_films_own(tmp_path: Path, name: str) -> None:
    times = [0, 40, 90, 130, 170, 220, 260, 300, 350, 400, 440, 480, 530, 560, 610, 640]
    path = film(tmp_path / name, "tff", times=times, time_base=Fraction(1, 1000))
    whole, half = VideoReader(path, interlaced="frame"), VideoReader(path, interlaced="field")
    expected = [Fraction(t, 1000) for t in times]
    assert [f.pts * whole.info.time_base for f in whole] == expected
    shown = [f.pts * half.info.time_base for f in half]
    assert shown[::2] == expected
    assert shown[1:-1:2] == [(a + b) / 2 for a, b in pairwise(expected)]
    assert [Fraction(half.time_of(i)).limit_denominator(2000) for i in range(len(half))] == shown
    assert half.info.rate == 2 * whole.info.rate
    assert half.info.duration == whole.info.duration


def test_times_of_fields_lie_half_way() -> None:
    assert field_times(array("q", [0, 4, 10]), 4).tolist() == [0, 4, 8, 14, 20, 26]
    assert field_times(array("q", [7]), 4).tolist() == [14, 18]


@pytest.mark.parametrize(("mode", "each"), [("frame", 1), ("field", 2)])
def test_parts_and_single_frames_are_those_of_the_whole(tmp_path: Path, mode: str, each: int) -> None:
    reader = VideoReader(film(tmp_path / "a.mp4", "tff"), interlaced=mode)
    whole = [frame.image for frame in reader]
    part = [frame.image for frame in reader.frames(3, 9)]
    assert np.array_equal(np.stack(part), np.stack(whole[3:9]))
    picked = {frame.index: frame.image for frame in reader.frames_at([1, 7, FRAMES * each - 1])}
    assert all(np.array_equal(image, whole[index]) for index, image in picked.items())


@pytest.mark.parametrize(("mode", "each"), [("frame", 1), ("field", 2)])
def test_a_damaged_film_keeps_its_length(tmp_path: Path, mode: str, each: int) -> None:
    given = {"crf": "5", "preset": "veryfast", "g": "4", "bf": "0"}
    path = encode(tmp_path / "a.mp4", woven(moments(), "tff"), pixel_format="yuv444p", options=given)
    reader = VideoReader(spoil(path, [5]), forgiving=True, interlaced=mode)
    frames = list(reader)
    assert [frame.index for frame in frames] == list(range(FRAMES * each))
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))
    assert reader.damaged


def test_a_film_of_one_frame(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", "", "tff", woven(moments(2), "tff"))
    assert len(list(VideoReader(path, interlaced="frame"))) == 1
    assert len(list(VideoReader(path, interlaced="field"))) == 2


# ---------------------------------------------------------------- kept


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_kept_fields_come_back_with_their_order_and_colours(tmp_path: Path, order: str) -> None:
    frames = woven(moments(), order)
    kept, mixed = tmp_path / "kept.mp4", tmp_path / "mixed.mp4"
    for path, fields in ((kept, order), (mixed, "")):
        with VideoWriter(path, SIZE[1], SIZE[0], 25, crf=1, fields=fields) as writer:
            for frame in frames:
                writer.write(frame)
    with av.open(str(kept)) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))
    assert field_order(kept) == (order, False)
    reader = VideoReader(kept, interlaced="keep")
    assert reader.fields == order
    assert "stays interlaced" in reader.notes[0]
    near = np.mean([psnr(frame.image, image) for frame, image in zip(reader, frames, strict=True)])
    blurred = np.mean([psnr(frame.image, image) for frame, image in zip(VideoReader(mixed), frames, strict=True)])
    assert near > blurred + 2  # colours of one field are not mixed with the other's


# ---------------------------------------------------------------- through the real entry points


def tiny(*overrides: str) -> list[str]:
    return ["preset=tiny", "prompt.describe=false", "faces.refine=false", *overrides]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfvr.film.analysis.make_detector", lambda config: HalvesDetector())


def test_restore_makes_whole_frames_and_says_so(tmp_path: Path, cheap: None, capsys: pytest.CaptureFixture) -> None:
    source = write_film(tmp_path / "a.mp4", woven(moments(), "tff"))
    for mode, frames, order in (("frame", FRAMES, ""), ("field", 2 * FRAMES, ""), ("keep", FRAMES, "tff")):
        out = tmp_path / f"{mode}.mp4"
        report = restore(Job(source, out), load_config(None, tiny(f"video.interlaced={mode}")))
        assert report["frames"] == report["restored"] == frames
        assert report["sound"] == "copied"
        assert "is interlaced (its flags say otherwise)" in report["notes"][0]
        assert field_order(out)[0] == order
        assert VideoReader(out).info.rate == 25 * frames // FRAMES
    main([str(source), "--output", str(tmp_path / "b.mp4"), "--dry-run", *tiny()])
    assert "is interlaced" in capsys.readouterr().out
    words = ["--output", str(tmp_path / "b.mp4"), "--scale", "2", *tiny("video.interlaced=keep")]
    assert run_verb(main, [str(source), *words]) == 2
    assert "leave out either it, or --crop and --scale" in capsys.readouterr().err
    with pytest.raises(UserError, match="all are frame, field, keep, ignore"):
        restore(Job(source, tmp_path / "b.mp4"), load_config(None, tiny("video.interlaced=both")))


def test_crops_are_those_of_whole_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfvr.faces.crop_video.make_detector", lambda config: HalvesDetector())
    crops = []
    for name, images in (("fields", None), ("wholes", moments()[::2])):
        out = tmp_path / f"{name}_crop.mp4"
        crop_video(film(tmp_path / f"{name}.mp4", "tff", images=images), out, load_config(None, ["preset=tiny"]))
        crops.append([frame.image for frame in VideoReader(out)])
    assert len(crops[0]) == len(crops[1]) == FRAMES
    near = np.mean([psnr(a, b) for a, b in zip(*crops, strict=True)])
    assert near > 30


@pytest.mark.skipif(not INPUTS.is_dir(), reason="the inputs of ../shared/data are not here")
def test_a_real_pal_film_comes_out_without_combs(tmp_path: Path, cheap: None) -> None:
    source, out = INPUTS / "interlaced_pal.mpg", tmp_path / "out.mkv"
    assert field_order(source) == ("tff", False)
    main([str(source), "--output", str(out), "--no-page", *tiny()])
    report = json.loads(out.with_suffix(".json").read_text())
    assert "as its flags say" in report["notes"][0]
    assert field_order(out) == ("", False)
    assert VideoReader(out).info.sample_aspect_ratio == Fraction(16, 15)
