"""Eq. 13 as theorems: its limits, its statistics, its ranges, and two constructions that must agree."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ipfvr import degrade as verb
from ipfvr.core.errors import UserError, run_verb
from ipfvr.degradation.pipeline import (
    Parameters,
    Round,
    blur,
    degrade,
    degrade_stream,
    downscale,
    sample_parameters,
    soften,
)
from ipfvr.video.reader import VideoReader, read_frames
from ipfvr.video.writer import VideoWriter

CLIPS = Path(__file__).parents[2] / "shared" / "data" / "clips"
CLEAN = Round(sigma=0.0, delta=0.0, crf=1, scale=1, resize="area")


def smooth(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A pattern that moves one pixel a frame, smooth enough for 4:2:0: (F, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 190, (4, 5, 3), dtype=np.uint8)
    canvas = cv2.resize(small, (width + frames, height + frames), interpolation=cv2.INTER_CUBIC)
    return np.stack([canvas[i : i + height, i : i + width] for i in range(frames)])


def parameters(*rounds: Round, seed: int = 0, size: int = 128) -> Parameters:
    return Parameters("heavy", seed, size, rounds)


# ---------------------------------------------------------------- the terms of Eq. 13


def test_no_blur_no_noise_and_a_good_encode_is_almost_the_identity():
    clip = smooth(6, 64, 80)
    error = degrade(clip, parameters(CLEAN)).astype(int) - clip
    assert np.abs(error).mean() < 1.5
    assert np.abs(error.mean((0, 1, 2))).max() < 0.5


@pytest.mark.parametrize("sigma", [0.0, 0.04, 0.5, 3.0, 5.0])
def test_blur_of_a_constant_is_the_constant(sigma):
    image = np.full((40, 50, 3), (10.0, 100.0, 240.0), np.float32)
    assert np.abs(blur(image, sigma) - image).max() < 1e-3


@pytest.mark.parametrize("sigma", [0.8, 1.0, 2.5, 5.0])
def test_blur_has_the_standard_deviation_it_is_given(sigma):
    image = np.zeros((101, 101, 3), np.float32)
    image[50, 50] = 1.0
    spread = blur(image, sigma)[..., 0].sum(0)
    x = np.arange(101) - 50
    assert spread.sum() == pytest.approx(1.0, abs=1e-5)
    assert math.sqrt((spread * x**2).sum()) == pytest.approx(sigma, rel=0.02)


def test_two_blurs_are_one_of_the_summed_variance():
    image = smooth(1, 96, 96)[0].astype(np.float32)
    twice, once = blur(blur(image, 1.5), 2.0), blur(image, 2.5)
    assert np.abs(twice - once)[16:-16, 16:-16].max() < 0.1


@pytest.mark.parametrize("delta", [1.0, 5.0, 10.0])
def test_noise_has_the_standard_deviation_it_is_given(delta):
    grey = [np.full((128, 128, 3), 128, np.uint8)] * 4
    noisy = np.stack(list(soften(grey, parameters(Round(0.0, delta, 18, 1, "area")), 0))).astype(float) - 128
    # Rounding to 8 bits adds a variance of 1/12.
    assert noisy.std() == pytest.approx(math.sqrt(delta**2 + 1 / 12), rel=0.01)
    assert abs(noisy.mean()) < 4 * delta / math.sqrt(noisy.size)
    # Independent from frame to frame, row to row and colour to colour.
    for a, b in ((noisy[0], noisy[1]), (noisy[:, 1:], noisy[:, :-1]), (noisy[..., 0], noisy[..., 1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_noise_is_added_before_the_downscale():
    """Averaging r x r pixels divides the noise by r."""
    grey = [np.full((256, 256, 3), 128, np.uint8)]
    noisy = next(soften(grey, parameters(Round(0.0, 10.0, 18, 4, "area")), 0)).astype(float)
    assert noisy.std() == pytest.approx(math.sqrt((10 / 4) ** 2 + 1 / 12), rel=0.02)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_area_is_the_mean_of_the_pixels_below(scale):
    image = np.random.default_rng(0).random((8 * scale, 9 * scale, 3), dtype=np.float32)
    mean = image.reshape(8, scale, 9, scale, 3).mean((1, 3))
    assert np.abs(downscale(image, scale, "area") - mean).max() < 1e-5


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
def test_bicubic_is_the_antialiased_one(scale):
    image = np.random.default_rng(0).random((16 * scale, 17 * scale, 3), dtype=np.float32)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    reference = torch.nn.functional.interpolate(tensor, size=(16, 17), mode="bicubic", antialias=True)
    difference = downscale(image, scale, "bicubic") - reference[0].permute(1, 2, 0).numpy()
    assert np.abs(difference[2:-2, 2:-2]).max() < 1e-5  # borders: mirrored here, cut there


@pytest.mark.parametrize("resize", ["area", "bicubic"])
def test_downscale_does_not_move_the_picture(resize):
    ramp = np.tile(np.arange(64, dtype=np.float32)[None, :, None], (64, 1, 3))
    for scale in (2, 3, 4):
        small = downscale(ramp, scale, resize)[8, 4:-4, 0]
        centres = (np.arange(64 // scale) + 0.5) * scale - 0.5
        assert np.abs(small - centres[4:-4]).max() < 1e-3
    with pytest.raises(UserError, match="too small"):
        downscale(ramp[:2], 4, resize)


def test_a_higher_crf_is_further_from_the_truth():
    clip = smooth(8, 96, 96) + np.random.default_rng(0).integers(0, 40, (8, 96, 96, 3), dtype=np.uint8)
    errors = [
        np.abs(degrade(clip, parameters(Round(0.0, 0.0, crf, 1, "area"))).astype(int) - clip).mean()
        for crf in (18, 26, 35)
    ]
    assert errors[0] < errors[1] < errors[2]


# ---------------------------------------------------------------- sampling


def test_parameters_are_within_the_papers_ranges():
    for seed in range(200):
        for level, sigma, delta in (
            ("light", (0.2, 3), (1, 5)),
            ("heavy", (2, 5), (1, 10)),
            ("severe", (2, 5), (1, 10)),
        ):
            drawn = sample_parameters(level, 4, 720, seed)
            assert len(drawn.rounds) == 1 or level != "light"
            assert drawn.rounds[0].scale == (8 if level == "severe" else 4)
            assert all(this.scale == 1 for this in drawn.rounds[1:])
            for this in drawn.rounds:
                assert sigma[0] <= this.sigma <= sigma[1]
                assert delta[0] <= this.delta <= delta[1]
                assert 18 <= this.crf <= 35


def test_the_ranges_are_filled_and_the_second_round_comes_in_nine_of_ten():
    drawn = [sample_parameters("heavy", 4, 720, seed) for seed in range(2000)]
    second = np.mean([len(p.rounds) == 2 for p in drawn])
    assert second == pytest.approx(0.9, abs=0.02)
    rounds = [this for p in drawn for this in p.rounds]
    assert np.mean([this.sigma for this in rounds]) == pytest.approx(3.5, abs=0.06)
    assert np.mean([this.delta for this in rounds]) == pytest.approx(5.5, abs=0.2)
    assert {this.crf for this in rounds} == set(range(18, 36))
    assert np.mean([this.resize == "area" for this in rounds]) == pytest.approx(0.5, abs=0.04)


def test_sigma_scales_with_the_face():
    paper, mini = sample_parameters("heavy", 4, 720, 7), sample_parameters("heavy", 4, 128, 7)
    unscaled = sample_parameters("heavy", 4, 128, 7, scale_sigma=False)
    for a, b, c in zip(paper.rounds, mini.rounds, unscaled.rounds, strict=True):
        assert b.sigma == pytest.approx(a.sigma * 128 / 720)
        assert c.sigma == a.sigma
        assert (a.delta, a.crf, a.scale) == (b.delta, b.crf, b.scale)


def test_parameters_travel_as_json():
    for level in ("light", "heavy", "severe"):
        drawn = sample_parameters(level, 2, 128, 3)
        assert Parameters.from_dict(json.loads(json.dumps(drawn.to_dict()))) == drawn


def test_bad_arguments():
    with pytest.raises(UserError, match="known ones are light, heavy, severe"):
        sample_parameters("strong", 2, 128, 0)
    with pytest.raises(UserError, match="seed >= 0"):
        sample_parameters("light", 2, 128, -1)
    for frames in (np.zeros((0, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3))):
        with pytest.raises(UserError, match="needs"):
            degrade(frames, parameters(CLEAN))


# ---------------------------------------------------------------- the whole


def test_a_seed_is_a_result():
    clip = smooth(5, 64, 64)
    for level in ("light", "heavy", "severe"):
        first, again, other = (degrade(clip, sample_parameters(level, 2, 64, seed)) for seed in (3, 3, 4))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_the_result_does_not_depend_on_threads():
    clip = smooth(4, 96, 96)
    drawn = sample_parameters("heavy", 2, 96, 5)
    expected = degrade(clip, drawn)
    before = cv2.getNumThreads()
    try:
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            assert np.array_equal(degrade(clip, drawn), expected)
    finally:
        cv2.setNumThreads(before)
    results: list[np.ndarray] = []
    workers = [threading.Thread(target=lambda: results.append(degrade(clip, drawn))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 3
    assert all(np.array_equal(r, expected) for r in results)


@pytest.mark.parametrize("frames", [1, 2, 24, 70])
@pytest.mark.parametrize("size", [(64, 64), (62, 66), (46, 34), (63, 65)])
def test_sizes_and_numbers_of_frames(frames, size):
    drawn = sample_parameters("heavy", 2, 64, 0)
    result = degrade(smooth(frames, *size), drawn)
    assert result.shape == (frames, size[0] // 2, size[1] // 2, 3)
    assert result.dtype == np.uint8


def test_odd_sides_are_those_of_the_even_picture():
    """The pixel that makes a side even is cut off again: the rest is the picture."""
    clip = smooth(3, 63, 65)
    error = degrade(clip, parameters(CLEAN)).astype(int) - clip
    assert np.abs(error).mean() < 2.0


def test_a_stream_is_lazy_and_equals_the_array():
    clip = smooth(150, 32, 32)
    drawn = parameters(Round(1.0, 3.0, 25, 2, "area"), Round(0.5, 3.0, 25, 1, "area"))
    taken = []

    def source():
        for index, frame in enumerate(clip):
            taken.append(index)
            yield frame

    stream = degrade_stream(source(), drawn)
    assert not taken
    first = next(stream)
    assert len(taken) < 150  # the encoders' look-ahead, not the clip
    assert np.array_equal(np.stack([first, *stream]), degrade(clip, drawn))


def test_it_is_one_encode_over_the_whole_clip():
    """A picture's result is not the first frame of a clip's: the encoder sees what follows."""
    clip = smooth(12, 96, 96)
    drawn = parameters(Round(0.5, 4.0, 33, 2, "area"))
    whole = degrade(clip, drawn)
    apart = np.concatenate([degrade(clip[:6], drawn), degrade(clip[6:], drawn)])
    assert not np.array_equal(whole, apart)


# ---------------------------------------------------------------- the verb


@pytest.mark.parametrize("size", [(64, 48), (66, 46)])
@pytest.mark.parametrize("level", ["light", "heavy"])
def test_the_verbs_file_holds_the_librarys_frames(tmp_path, level, size, capsys):
    width, height = size
    clip = smooth(80, height, width)
    times = [2 * i + i % 2 for i in range(80)]
    with VideoWriter(tmp_path / "in.mp4", width, height, 25, crf=10) as writer:
        for image, time in zip(clip, times, strict=True):
            writer.write(image, time)
    files = (tmp_path / "in.mp4", tmp_path / "out.mp4")
    code = run_verb(
        verb.main,
        [*map(str, files), "--level", level, "--seed", "5", "--scale", "2", "preset=tiny"],
    )
    assert code == 0
    assert "80 frames of" in capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text())
    drawn = Parameters.from_dict(record["parameters"])
    assert drawn == sample_parameters(level, 2, min(size), 5)
    assert (record["frames"], record["width"], record["height"]) == (80, width // 2, height // 2)
    assert record["versions"]["av"]
    assert np.array_equal(read_frames(tmp_path / "out.mp4"), degrade(read_frames(tmp_path / "in.mp4"), drawn))
    source, result = VideoReader(tmp_path / "in.mp4"), VideoReader(tmp_path / "out.mp4")
    assert [f.time for f in source] == [f.time for f in result]


def test_the_verb_says_what_is_wrong_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    with VideoWriter(tmp_path / "in.mp4", 64, 48, 25) as writer:
        writer.write(smooth(1, 48, 64)[0])
    before = sorted(p.name for p in tmp_path.iterdir())
    for source, output, more, message in (
        ("text.mp4", "out.mp4", [], "not a video"),
        ("none.mp4", "out.mp4", [], "no video file"),
        ("in.mp4", "out.gif", [], "must end in"),
        ("in.mp4", "in.mp4", [], "the input itself"),
        ("in.mp4", "out.mp4", ["--scale", "100"], "0 x 0"),
        ("in.mp4", "out.mp4", ["degradation.levl=light"], "degradation.level"),
    ):
        arguments = [str(tmp_path / source), str(tmp_path / output), "--level", "light", "preset=tiny", *more]
        assert run_verb(verb.main, arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips of ../shared/data are not here")
def test_a_real_clip_loses_more_with_each_level():
    clip = read_frames(CLIPS / "id06" / "id06_c01.mp4", 0, 8)
    errors = []
    for level in ("light", "heavy", "severe"):
        worst = []
        for seed in range(3):
            small = degrade(clip, sample_parameters(level, 4, 512, seed))
            back = np.stack([cv2.resize(f, (512, 512), interpolation=cv2.INTER_CUBIC) for f in small])
            worst.append(np.mean((back.astype(float) - clip) ** 2))
        errors.append(np.mean(worst))
    assert errors[0] < errors[1] < errors[2]
