"""Scoring under Trainer.test: several processes give one process's numbers, and those of other implementations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from test_evaluate import dim, pan, run, write_video

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.data.scoring import Item
from ipfvr.metrics.evaluation import choose_metrics, make_scorer
from ipfvr.metrics.inputs import find_clips
from ipfvr.training.evaluation import evaluate_items
from ipfvr.video.footage import Clip
from ipfvr.video.reader import read_frames

ROOT = Path(__file__).parents[1]
STEP = 3  # pixels that the camera moves from frame to frame
METRICS = ("--metrics", "psnr", "ssim", "e_warp")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of unequal length, as lossy videos."""
    root = tmp_path_factory.mktemp("clips")
    for seed, count in enumerate((3, 6, 4)):
        truth = pan(count, size=96, step=STEP)
        write_video(root / "gt" / f"clip{seed}.mp4", truth)
        write_video(root / "pred" / f"clip{seed}.mp4", dim(truth, seed))
    return root


@pytest.fixture(scope="module")
def alone(clips: Path) -> dict:
    """What one process writes."""
    arguments = ("--pred", clips / "pred", "--gt", clips / "gt", "--flow", "dis", "--json", clips / "one.json")
    assert run(*arguments, *METRICS) == 0
    return json.loads((clips / "one.json").read_text())


def test_the_verbs_psnr_and_ssim_are_skimages_on_the_same_files(clips: Path, alone: dict) -> None:
    for row in alone["clips"]:
        prediction, truth = read_frames(row["prediction"]), read_frames(row["ground_truth"])
        wanted = [peak_signal_noise_ratio(t, p) for t, p in zip(truth, prediction, strict=True)]
        assert row["per_frame"]["psnr"] == pytest.approx(wanted, rel=1e-5)
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        wanted = [
            structural_similarity(t, p, channel_axis=2, **settings) for t, p in zip(truth, prediction, strict=True)
        ]
        assert row["per_frame"]["ssim"] == pytest.approx(wanted, rel=1e-5)


def test_the_verbs_warping_error_is_that_of_the_known_motion(clips: Path, alone: dict) -> None:
    for row in alone["clips"]:
        prediction = read_frames(row["prediction"]).astype(float) / 255
        # The camera moves by whole pixels: what lies at x in a frame lies at x - STEP in the next.
        errors = [
            1000 * np.square(after[:, :-STEP] - before[:, STEP:]).mean() for before, after in pairwise(prediction)
        ]
        assert row["scores"]["e_warp_gt"] == pytest.approx(np.mean(errors), rel=0.05)


def test_two_processes_give_the_numbers_of_one(clips: Path, alone: dict) -> None:
    words = ["--pred", clips / "pred", "--gt", clips / "gt", "--flow", "dis", "--json", clips / "two.json"]
    command = [sys.executable, "-m", "ipfvr.evaluate", *map(str, words), *METRICS, "--devices", "2", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*command, "preset=tiny", "device=cpu"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    two = json.loads((clips / "two.json").read_text())
    assert two["clips"] == alone["clips"]
    assert two["mean"] == alone["mean"]
    assert two["processes"] == 2
    assert ran.stdout.count("Protocol") == 1


def test_the_synchronised_metrics_are_the_means_over_the_rows(clips: Path, alone: dict) -> None:
    pairs = zip(find_clips(clips / "pred"), find_clips(clips / "gt"), strict=True)
    items = [Item(i, prediction, target) for i, (prediction, target) in enumerate(pairs)]
    config, keys = load_config(overrides=["preset=tiny"]), choose_metrics(METRICS[1:])
    done = evaluate_items(
        items,
        lambda device: make_scorer(config, device, flow="dis", metrics=keys),
        torch.device("cpu"),
    )
    for key in ("psnr", "ssim", "e_warp_gt"):
        assert done.means[key] == pytest.approx(alone["mean"][key]["mean"], rel=1e-9)
    assert np.isnan(done.means["e_warp_own"])


def test_a_clip_that_cannot_be_scored_is_one_line(tmp_path: Path, clips: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index, side in enumerate((32, 32, 16)):
        cv2.imwrite(str(frames / f"{index}.png"), np.zeros((side, side, 3), np.uint8))
    items = [Item(0, find_clips(clips / "pred")[0]), Item(1, Clip("frames", frames))]
    config = load_config(overrides=["preset=tiny"])
    with pytest.raises(UserError, match=r"2.png is 16 x 16, the folder's first frame 32 x 32"):
        evaluate_items(items, lambda device: make_scorer(config, device, metrics=("niqe",)), torch.device("cpu"))
