"""E_warp: what it is of videos whose motion is known, what does not count, and what its name says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from ipfvr import evaluate
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.folders import cache_folder
from ipfvr.metrics.evaluation import Scorer, evaluate_clip
from ipfvr.metrics.flow import DIS, make_flow
from ipfvr.metrics.warping import WarpingError, visible_pixels, warp, warping_error
from ipfvr.weights.catalogue import ENTRIES

SIZE = 64


class Known:
    """The true flow of a picture that moves by (x, y) pixels a frame, for the pairs that the metric asks about."""

    name, licence, min_side = "the true flow", "none", 1

    def __init__(self, x: float = 0, y: float = 0) -> None:
        self.step, self.weights = torch.tensor([x, y], dtype=torch.float64), {}

    def estimate(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Forward, then backward, as the metric asks for them."""
        assert len(first) == 2
        return torch.stack([self.step, -self.step])[:, :, None, None].expand(2, 2, *first.shape[-2:])


def pan(count: int, x: int = 2, y: int = 0) -> np.ndarray:
    """A window over a photograph: what it shows moves by (-x, -y) a frame. (F, H, W, 3) uint8."""
    picture = skimage.data.astronaut()
    corners = [(60 + y * i, 180 + x * i) for i in range(count)]
    return np.stack([picture[a : a + SIZE, b : b + SIZE] for a, b in corners])


def unit(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255


def error_of(flow, *videos: torch.Tensor) -> float:
    return float(WarpingError("gt" if len(videos) == 2 else "own", flow).forward(*videos))


# Known values


@pytest.mark.parametrize("flow", [DIS(), Known()])
def test_a_constant_video_has_no_error(flow) -> None:
    still = unit(pan(1)).repeat(4, 1, 1, 1)
    assert error_of(flow, still) == 0
    assert error_of(flow, torch.full_like(still, 0.3), still) == 0


@pytest.mark.parametrize(("x", "y"), [(2, 0), (0, 3), (-1, 2)])
def test_a_moving_picture_has_none_with_the_true_flow_and_hardly_any_with_dis(x: int, y: int) -> None:
    video = unit(pan(4, x, y))
    assert error_of(Known(-x, -y), video) == 0
    without_flow = error_of(Known(), video)
    assert without_flow > 5
    assert error_of(DIS(), video) < 0.02 * without_flow


def test_dis_finds_the_motion() -> None:
    video = unit(pan(2, 3, 1))
    inner = DIS().estimate(video[:1], video[1:])[0, :, 8:-8, 8:-8]
    assert inner[0].median().item() == pytest.approx(-3, abs=0.1)
    assert inner[1].median().item() == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize("amplitude", [0.01, 0.05])
def test_flicker_on_a_still_video_has_its_analytic_error(amplitude: float) -> None:
    still = 0.2 + 0.6 * unit(pan(1)).repeat(6, 1, 1, 1)
    signs = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64).view(-1, 1, 1, 1)
    # Neighbours differ by twice the amplitude everywhere.
    assert error_of(DIS(), still + amplitude * signs, still) == pytest.approx(1000 * (2 * amplitude) ** 2, rel=1e-9)


def test_noise_on_a_moving_video_has_twice_its_variance() -> None:
    video, generator = unit(pan(6)), torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(video.shape, generator=generator, dtype=torch.float64)
    assert error_of(Known(-2, 0), video + noise, video) == pytest.approx(1000 * 2 * 0.05**2, rel=0.03)


def test_warping_by_half_a_pixel_is_the_mean_of_two() -> None:
    picture = unit(pan(1))[0]
    half = torch.zeros(2, SIZE, SIZE)
    half[0] = 0.5
    torch.testing.assert_close(warp(picture, half)[..., :-1], (picture[..., 1:] + picture[..., :-1]) / 2)


# What does not count


def covered_scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A square goes three pixels to the right over a background that stands still.

    Returns:
        flows forward and backward (2, H, W), and the background (H, W) that the first frame shows and the second hides.
    """
    forward, backward = torch.zeros(2, SIZE, SIZE), torch.zeros(2, SIZE, SIZE)
    forward[0, 20:40, 20:40] = 3
    backward[0, 20:40, 23:43] = -3
    hidden = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    hidden[20:40, 40:43] = True
    return forward, backward, hidden


def test_what_the_next_frame_hides_does_not_count() -> None:
    forward, backward, hidden = covered_scene()
    visible = visible_pixels(forward, backward)
    assert not visible[hidden].any()
    assert visible[22:38, 22:37].all()  # the square's inside
    assert visible[:18].all()
    assert visible[45:].all()
    generator = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 3, SIZE, SIZE, generator=generator)
    spoilt = torch.where(hidden, 1 - first, first)
    assert warping_error(spoilt, second, forward, visible) == warping_error(first, second, forward, visible)
    seen = torch.where(~hidden & visible, 1 - first, first)
    assert warping_error(seen, second, forward, visible) != warping_error(first, second, forward, visible)


def test_what_leaves_the_frame_does_not_count() -> None:
    flow = torch.zeros(2, SIZE, SIZE)
    flow[0] = 5
    visible = visible_pixels(flow, -flow)
    assert visible[:, :-5].all()
    assert not visible[:, -5:].any()
    assert warping_error(torch.zeros(3, SIZE, SIZE), torch.ones(3, SIZE, SIZE), flow, ~(visible | True)).isnan()


@pytest.mark.parametrize("along", [0, 1])
def test_borders_of_motion_do_not_count(along: int) -> None:
    """Two halves slide apart too slowly for the flows there and back to disagree: the line between them is left out."""
    flow = torch.zeros(2, SIZE, SIZE)
    flow[1 - along].narrow(along, SIZE // 2, SIZE // 2)[:] = 0.6
    visible = visible_pixels(flow, -flow).movedim(along, 0)
    left_out = (~visible).nonzero()
    rows = set(left_out[:, 0].tolist())
    assert not visible[SIZE // 2 - 1].any(), "the last line of the half that stands still"
    inside = visible[:, 2:-2]
    assert rows - {SIZE // 2 - 1} <= {SIZE - 1}
    assert inside[: SIZE // 2 - 1].all()
    assert inside[SIZE // 2 : -1].all()


def test_no_pair_is_of_two_clips_and_one_frame_has_no_number() -> None:
    one, other = unit(pan(3, 0)), 1 - unit(pan(3, 0))
    metric = WarpingError("own", Known())  # DIS sees nothing of one in the other, so that the pair would not count
    for clip in (one, other):
        metric.update(clip)
        assert metric.end_clip() == 0
    metric.update(one[:1])
    assert metric.latest.isnan().all()
    assert float(metric.compute()) == 0  # ends the clip of one frame, which does not count
    metric.update(other[:1])
    assert np.isnan(metric.end_clip())
    assert float(metric.clips) == 2
    metric.update(one)
    metric.reset()
    metric.update(other)
    assert float(metric.compute()) == 0


def test_two_processes_are_the_whole() -> None:
    videos = [unit(pan(n, x)) for n, x in ((3, 1), (5, 2), (4, -1))]
    whole, parts = WarpingError("own", DIS()), [WarpingError("own", DIS()) for _ in range(2)]
    for number, video in enumerate(videos):
        for metric in (whole, parts[number % 2]):
            metric.update(video)
            metric.end_clip()
    parts[0].merge_state(parts[1])
    assert float(parts[0].compute()) == pytest.approx(float(whole.compute()), rel=1e-12)
    assert float(parts[0].clips) == 3


# Names


def test_without_ground_truth_the_flow_is_its_own_and_named_so() -> None:
    truth = pan(5)
    noisy = (truth + np.random.default_rng(0).normal(0, 6, truth.shape)).clip(0, 255).astype(np.uint8)
    scorer = Scorer(flow=DIS())
    with_truth, alone = (evaluate_clip(noisy, t, None, scorer) for t in (truth, None))
    assert with_truth.scores["e_warp_own"] is None
    assert alone.scores["e_warp_gt"] is None
    assert alone.scores["e_warp_own"] == pytest.approx(error_of(DIS(), unit(noisy).float()), rel=1e-6)
    assert alone.missing["e_warp_gt"] == "no ground truth is given"
    assert with_truth.missing["e_warp_own"] == "the flow is the ground truth's"
    assert with_truth.per_frame["e_warp_gt"][0] is None
    assert np.mean(with_truth.per_frame["e_warp_gt"][1:]) == pytest.approx(with_truth.scores["e_warp_gt"])
    assert 0.3 < with_truth.visible <= 1
    assert scorer.infos()["e_warp_own"].heading == "E_warp, own flow by DIS (OpenCV) (x 1e-3) ↓"
    small = evaluate_clip(noisy[:, :8, :8], None, None, scorer)
    assert "smaller than the 12 pixels that DIS (OpenCV) needs" in small.missing["e_warp_own"]


def test_raft_without_its_file_is_no_number_and_never_dis(bare: Path, capsys: pytest.CaptureFixture) -> None:
    for name, x in (("a", 1), ("b", 2)):
        for kind in ("pred", "gt"):
            (bare / kind / name).mkdir(parents=True)
            for i, frame in enumerate(pan(3, x)):
                cv2.imwrite(str(bare / kind / name / f"{i}.png"), frame[..., ::-1])
    arguments = ["--pred", bare / "pred", "--gt", bare / "gt", "--json", bare / "out.json", "--quiet", "preset=tiny"]
    scores, printed = {}, {}
    for flow in ("auto", "dis", "raft"):
        assert run_verb(evaluate.main, [*map(str, arguments), "device=cpu", "--flow", flow]) == 0
        content, printed[flow] = json.loads((bare / "out.json").read_text()), capsys.readouterr().out
        scores[flow] = [row["scores"]["e_warp_gt"] for row in content["clips"]]
    assert scores["auto"] == scores["dis"]
    assert content["mean"]["e_warp_gt"] is None
    assert all(value > 0 for value in scores["dis"])
    assert "E_warp by DIS (OpenCV) (x 1e-3)" in printed["auto"]
    assert "- e_warp: DIS (OpenCV)" in printed["auto"]
    assert scores["raft"] == [None, None]
    assert "weights 'raft-large' are missing" in printed["raft"]
    assert "DIS" not in printed["raft"]
    with pytest.raises(UserError, match="flow 'farneback' is unknown"):
        make_flow("farneback")


def test_raft_of_a_file_is_named_and_a_net_of_zeros_sees_no_motion(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models.optical_flow import raft_small

    entry = ENTRIES["raft-small"]
    path = cache_folder() / entry.path
    path.parent.mkdir(parents=True)
    torch.save({k: torch.zeros_like(v) for k, v in raft_small(weights=None).state_dict().items()}, path)
    with pytest.raises(UserError, match="is not 'raft-small'"):
        make_flow("auto")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fitting = replace(entry, files=(replace(entry.files[0], sha256=digest[:8]),))
    monkeypatch.setitem(ENTRIES, entry.name, fitting)
    flow = make_flow("auto")
    assert flow.weights == {"raft-small": path}
    info = WarpingError("gt", flow).info
    assert info.title == f"E_warp by RAFT small ({entry.path})"
    assert digest in info.network
    video = unit(pan(2))[..., :50]  # sides that are no multiples of 8, smaller than the network's least
    assert flow.estimate(video[:1], video[1:]).shape == (1, 2, SIZE, 50)
    assert error_of(flow, video) == pytest.approx(error_of(Known(), video), rel=1e-6)
