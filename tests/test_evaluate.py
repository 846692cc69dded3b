"""The evaluate verb and clip scoring: pairing, refusals, what is printed, what lies in the JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from ipfvr import evaluate
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.metrics import pairing
from ipfvr.metrics.evaluation import Scorer, evaluate_clip, make_scorer
from ipfvr.metrics.inputs import find_clips, pair_clips, reference_pictures
from ipfvr.metrics.protocol import markdown_table, summarise
from ipfvr.video.footage import natural_key
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter

SHARED = Path(__file__).parents[2] / "shared" / "data"


class Projection:
    """Stands for a recogniser: a fixed random projection of the crop, of length 1."""

    name, licence, sha256 = "projection", "none", "0" * 64
    mean = torch.zeros(1)  # where this one is

    def __init__(self) -> None:
        self.matrix = torch.randn(3 * 14 * 14, 16, generator=torch.Generator().manual_seed(0))

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(images, 8).flatten(1)
        return torch.nn.functional.normalize(small @ self.matrix, dim=1)


def pan(count: int, size: int = 64, step: int = 3) -> np.ndarray:
    """A camera moving over a photograph: (F, size, size, 3) uint8 RGB."""
    picture = skimage.data.astronaut()
    return np.stack([picture[60 : 60 + size, 180 + i * step : 180 + i * step + size] for i in range(count)])


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"f{i}.png"), frame[..., ::-1])
    return folder


def write_video(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, frames.shape[2], frames.shape[1], 25) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def dim(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 8, frames.shape)
    return (frames + noise).clip(0, 255).astype(np.uint8)


def run(*arguments: object) -> int:
    return run_verb(evaluate.main, [*(str(a) for a in arguments), "--quiet", "preset=tiny", "device=cpu"])


# The verb


def test_without_weights_what_can_be_scored_is_scored(bare: Path, capsys: pytest.CaptureFixture) -> None:
    truth, result = pan(11), dim(pan(11))
    write_frames(bare / "gt", truth)
    write_frames(bare / "pred", result)
    cv2.imwrite(str(bare / "me.png"), truth[0])
    arguments = ("--pred", bare / "pred", "--gt", bare / "gt", "--reference", bare / "me.png")
    assert run(*arguments, "--json", bare / "out.json") == 0
    printed = capsys.readouterr().out
    content = json.loads((bare / "out.json").read_text())
    scores = content["clips"][0]["scores"]
    mse = ((truth.astype(float) - result) ** 2).mean(axis=(1, 2, 3)) / 255**2
    assert scores["psnr"] == pytest.approx(np.mean(-10 * np.log10(mse)), abs=1e-4)
    assert len(content["clips"][0]["per_frame"]["psnr"]) == 11
    assert 0.3 < scores["ssim"] < 1
    for key in ("ids_gt", "ids_ref", "sigma_ids_gt", "sigma_ids_ref", "niqe"):
        assert scores[key] is None
        assert "are missing" in content["clips"][0]["missing"][key]
    assert "weights fetch mobilefacenet" in printed
    assert "weights fetch niqe" in printed
    assert "| n/a" in printed
    assert "Protocol" in printed
    assert {"versions", "configuration", "seed", "weights"} <= set(content["provenance"])
    assert content["metrics"]["psnr"]["unit"] == "dB"


def test_several_clips_are_paired_by_name_and_averaged(bare: Path, capsys: pytest.CaptureFixture) -> None:
    for name, count in (("clip2", 3), ("clip10", 5)):
        write_video(bare / "gt" / f"{name}.mp4", pan(count))
        write_frames(bare / "pred" / name, dim(pan(count), seed=count))
    assert run("--pred", bare / "pred", "--gt", bare / "gt", "--json", bare / "out.json") == 0
    content = json.loads((bare / "out.json").read_text())
    assert [row["name"] for row in content["clips"]] == ["clip2", "clip10"]
    assert [row["frames"] for row in content["clips"]] == [3, 5]
    values = [row["scores"]["psnr"] for row in content["clips"]]
    mean = content["mean"]["psnr"]
    assert mean["mean"] == pytest.approx(np.mean(values))
    assert min(values) <= mean["low"] <= mean["mean"] <= mean["high"] <= max(values)
    printed = capsys.readouterr().out
    assert "**mean**" in printed
    assert "the person in 2 of the clips is unknown" in printed


def test_intervals_are_over_the_people_that_are_named(bare: Path, capsys: pytest.CaptureFixture) -> None:
    for name, seed in (("a1", 1), ("a2", 2), ("b1", 3)):
        write_frames(bare / "pred" / name, dim(pan(2), seed=seed) // seed)
        write_frames(bare / "gt" / name, pan(2))
    cv2.imwrite(str(bare / "me.png"), pan(1)[0])
    people = bare / "people.yaml"
    people.write_text("anna: [a1, a2]\nben: [b1]\n")
    common = ("--pred", bare / "pred", "--gt", bare / "gt", "--metrics", "psnr", "--json", bare / "out.json")

    def mean(*more: object) -> dict:
        assert run(*common, *more) == 0
        return json.loads((bare / "out.json").read_text())

    found = mean("--people", people)
    a1, a2, b1 = (row["scores"]["psnr"] for row in found["clips"])
    assert [row["person"] for row in found["clips"]] == ["anna", "anna", "ben"]
    assert found["mean"]["psnr"]["mean"] == pytest.approx(((a1 + a2) / 2 + b1) / 2)
    assert (found["mean"]["psnr"]["people"], found["mean"]["psnr"]["clips"]) == (2, 3)
    assert "(2 and 3 here)" in found["protocol"]["means"]
    assert "is unknown" not in found["protocol"]["means"]
    alone = mean("--reference", bare / "me.png")["mean"]["psnr"]
    assert (alone["people"], alone["low"]) == (1, None), "one picture for all: one person"
    assert mean()["mean"]["psnr"]["people"] == 3
    people.write_text("anna: [a1, a2]\n")
    assert run(*common, "--people", people) == 2
    assert "does not say who is in b1" in capsys.readouterr().err
    people.write_text("anna: a1\n")
    assert run(*common, "--people", people) == 2
    assert "'anna: [clip_1, clip_2]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pred", "gt", "says"),
    [
        ("five", "four", "has 5 frames, .*four has 4"),
        ("five", "small", "is 64 x 64, .*small is 32 x 32; add --resize"),
        ("five", "nowhere", "no file or folder .*nowhere"),
        ("five", "empty", "neither frames"),
        ("mixed", "five", "frames of one clip must have one size"),
        ("both", "five", "do not pair by name: no ground truth for"),
        ("beside", "five", "single frames beside"),
    ],
)
def test_what_does_not_fit_is_refused(bare: Path, capsys: pytest.CaptureFixture, pred: str, gt: str, says: str) -> None:
    write_frames(bare / "five", pan(5))
    write_frames(bare / "four", pan(4))
    write_frames(bare / "small", pan(5, size=32))
    (bare / "empty").mkdir()
    write_frames(bare / "mixed", pan(5))
    cv2.imwrite(str(bare / "mixed" / "f3.png"), pan(1, size=32)[0])
    write_frames(bare / "both" / "a", pan(5))
    write_frames(bare / "both" / "b", pan(5))
    write_frames(bare / "beside", pan(5))
    write_frames(bare / "beside" / "more", pan(5))
    assert run("--pred", bare / pred, "--gt", bare / gt, "--json", bare / "out.json") == 2
    errors = capsys.readouterr().err.strip()
    assert "\n" not in errors
    assert re.search(says, errors), errors
    assert not (bare / "out.json").exists()


def test_sizes_may_differ_when_asked(bare: Path) -> None:
    write_frames(bare / "gt", pan(3))
    write_frames(bare / "pred", np.stack([cv2.resize(f, (32, 32), interpolation=cv2.INTER_AREA) for f in pan(3)]))
    assert run("--pred", bare / "pred", "--gt", bare / "gt", "--resize", "--json", bare / "out.json") == 0
    content = json.loads((bare / "out.json").read_text())
    assert content["clips"][0]["resized_from"] == [32, 32]
    assert content["clips"][0]["width"] == 64
    assert "32x32 to 64x64" in content["protocol"]["resize"]


def test_without_ground_truth_fidelity_says_so(bare: Path, capsys: pytest.CaptureFixture) -> None:
    write_frames(bare / "pred", pan(2))
    assert run("--pred", bare / "pred") == 0
    printed = capsys.readouterr().out
    assert "n/a PSNR, SSIM, IDS to truth, sigma_IDS, E_warp by DIS (OpenCV): no ground truth is given" in printed


# Clip scoring


def test_a_metric_that_was_asked_for_and_cannot_be_had_is_an_exit_code(
    bare: Path, capsys: pytest.CaptureFixture
) -> None:
    """The rest is printed all the same; commas and spaces are alike; what has a number in one form is there."""
    video = write_video(bare / "a.mp4", pan(2))
    for metrics, status in ((["psnr,niqe"], 3), (["psnr", "niqe"], 3), (["psnr,ssim", "e_warp"], 0), (["all"], 0)):
        given = ["--pred", str(video), "--gt", str(video), "--quiet", "--metrics", *metrics]
        assert run_verb(evaluate.main, given) == status
        out, err = capsys.readouterr()
        assert "PSNR" in out
        assert len(err.splitlines()) == (status == 3)
    assert run_verb(evaluate.main, ["--pred", str(video), "--quiet", "--metrics", "psnr"]) == 3
    assert "psnr (no ground truth is given)" in capsys.readouterr().err


def test_a_clip_against_itself() -> None:
    scores = evaluate_clip(pan(9), pan(9), None, Scorer(recogniser=Projection()), name="self").scores
    assert scores["psnr"] == 100
    assert scores["ssim"] == pytest.approx(1)
    assert scores["ids_gt"] == pytest.approx(1, abs=1e-6)
    assert scores["sigma_ids_gt"] == pytest.approx(0, abs=1e-4)
    assert scores["ids_ref"] is None


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    scorer = Scorer(recogniser=Projection())
    reference = scorer.embed_reference({"me": pan(1)[0]})
    usual = evaluate_clip(dim(pan(10)), pan(10), reference, scorer)
    monkeypatch.setattr(pairing, "BATCH", batch)
    other = evaluate_clip(iter(dim(pan(10))), iter(pan(10)), reference, scorer)
    for key, value in usual.scores.items():
        assert other.scores[key] == (None if value is None else pytest.approx(value, abs=1e-4)), key
    assert len(other.per_frame["ids_ref"]) == 10
    assert np.mean(other.per_frame["ids_ref"]) == pytest.approx(other.scores["ids_ref"], abs=1e-6)
    assert 100 * np.std(other.per_frame["ids_ref"]) == pytest.approx(other.scores["sigma_ids_ref"], abs=1e-4)


def test_frames_are_drawn_one_batch_at_a_time() -> None:
    alive: list[int] = []

    def stream(frames: np.ndarray):
        for i, frame in enumerate(frames):
            alive.append(i)
            yield frame

    seen: list[int] = []
    evaluate_clip(
        stream(pan(20, step=1)), pan(20, step=1), None, Scorer(), progress=lambda n: seen.append(len(alive) - n)
    )
    assert max(seen) == 0
    assert len(seen) == 3


def test_unequal_streams_are_refused_with_both_numbers() -> None:
    with pytest.raises(UserError, match="prediction has 7 frames, the ground truth 4"):
        evaluate_clip(iter(pan(7)), iter(pan(4)), None, Scorer())
    with pytest.raises(UserError, match="prediction has 4 frames, the ground truth 7"):
        evaluate_clip(iter(pan(4)), iter(pan(7)), None, Scorer())
    with pytest.raises(UserError, match="no frames"):
        evaluate_clip(iter(()), None, None, Scorer())


def test_one_frame_has_no_deviation_and_a_wide_frame_without_detector_no_face() -> None:
    scorer = Scorer(recogniser=Projection())
    one = evaluate_clip(pan(1), pan(1), None, scorer)
    assert one.missing["sigma_ids_gt"] == "one frame has no standard deviation"
    wide = evaluate_clip(pan(3)[:, :48], pan(3)[:, :48], None, scorer)
    assert wide.missing["ids_gt"] == "no face was found in any frame"
    assert wide.landmarks == {"no face": 3}
    compared = evaluate_clip(pan(3)[:, :48], None, torch.ones(16), scorer)
    assert compared.missing["sigma_ids_ref"] == "a face was found in fewer than two frames"
    tiny = evaluate_clip(pan(2, size=8), pan(2, size=8), None, scorer)
    assert "smaller than SSIM's window" in tiny.missing["ssim"]
    assert tiny.scores["psnr"] == 100


def test_the_printed_mean_is_the_metrics_mean_over_clips() -> None:
    scorer = Scorer(recogniser=Projection())
    clips = [(dim(pan(n), seed=n), pan(n)) for n in (2, 6)]
    rows = [evaluate_clip(p, t, None, scorer, name=str(len(p))) for p, t in clips]
    metric = scorer.metrics()["psnr"]
    for p, t in clips:
        metric.update(*(torch.from_numpy(x).permute(0, 3, 1, 2) / 255 for x in (p, t)))
        metric.end_clip()
    summary = summarise(rows)["psnr"]
    assert summary.mean == pytest.approx(float(metric.compute()), abs=1e-4)
    table = markdown_table(rows, Scorer().infos())
    assert f"{summary.mean:.2f}" in table.splitlines()[-2]
    assert len({line.count("|") for line in table.splitlines()}) == 1


# Inputs


def test_names_sort_by_their_numbers() -> None:
    names = [Path(n) for n in ("f10.png", "f2.png", "f1.png", "a.png", "f2b.png")]
    assert [p.name for p in sorted(names, key=natural_key)] == ["a.png", "f1.png", "f2.png", "f2b.png", "f10.png"]


def test_a_video_and_its_frames_are_the_same_clip(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", pan(4))
    folder = write_frames(tmp_path / "frames", np.stack([f.image for f in VideoReader(video)]))
    (a,), (b,) = find_clips(video), find_clips(folder)
    assert (a.frames, a.size) == (b.frames, b.size) == (4, (64, 64))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert pair_clips([a], [b]) == [(a, b)]


def test_references_of_one_person_or_one_a_clip(tmp_path: Path) -> None:
    write_frames(tmp_path / "person", pan(2))
    assert len(reference_pictures([str(tmp_path / "person")], ["a", "b"])["b"]) == 2
    own = tmp_path / "own"
    own.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(own / f"{name}.png"), pan(1)[0])
    assert reference_pictures([str(own)], ["a", "b"]) == {"a": [own / "a.png"], "b": [own / "b.png"]}
    with pytest.raises(UserError, match="none for c"):
        reference_pictures([str(own)], ["a", "c"])
    with pytest.raises(UserError, match="no reference picture"):
        reference_pictures([str(tmp_path / "gone.png")], ["a"])


# Real faces


@pytest.mark.skipif(not (SHARED / "clips").is_dir(), reason="no real clips beside the checkout")
def test_real_clip_keeps_its_identity_and_loses_it_with_detail() -> None:
    config = load_config(None, ["preset=tiny"])
    scorer = make_scorer(config)
    assert scorer.recogniser is not None, scorer.missing
    (clip,) = find_clips(SHARED / "clips" / "id08" / "id08_c01.mp4")
    frames = [frame for _, frame in zip(range(6), clip, strict=False)]
    reference = scorer.embed_reference({"frame": frames[0]})
    height, width = frames[0].shape[:2]
    coarse = [cv2.resize(cv2.resize(f, (40, 40), interpolation=cv2.INTER_AREA), (width, height)) for f in frames]
    sharp = evaluate_clip(frames, frames, reference, scorer)
    blurred = evaluate_clip(coarse, frames, reference, scorer)
    assert sharp.landmarks == {"detected": 6}
    assert sharp.scores["ids_gt"] == pytest.approx(1, abs=1e-5)
    assert sharp.scores["ids_ref"] > 0.8
    assert blurred.scores["ids_gt"] < 0.9
    assert blurred.scores["ids_ref"] < sharp.scores["ids_ref"]
    assert blurred.scores["niqe"] > sharp.scores["niqe"]
    # Another person is not taken for this one.
    other = next(iter(find_clips(SHARED / "clips" / "id07" / "id07_c01.mp4")[0]))
    stranger = scorer.embed_reference({"other": other})
    assert evaluate_clip(frames, None, stranger, replace(scorer)).scores["ids_ref"] < 0.4
