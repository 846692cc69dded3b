"""Metrics: known values, limits, invariances, agreement with other implementations."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ipfvr.core.errors import UserError
from ipfvr.metrics.base import ClipMetric
from ipfvr.metrics.fidelity import PSNR, PSNR_LIMIT, SSIM, psnr, ssim
from ipfvr.metrics.flow import DIS
from ipfvr.metrics.identity import (
    IDS,
    LandmarkFinder,
    SigmaIDS,
    embed_reference,
    identity_jumps,
    identity_similarity,
)
from ipfvr.metrics.niqe import (
    NIQE,
    SMALL,
    STANDARD,
    Pristine,
    choose_blocks,
    distance,
    features,
    fit_aggd,
    halve,
    load_pristine,
    luma,
    mscn,
    niqe,
)
from ipfvr.metrics.warping import WarpingError

SHARED = Path(__file__).parents[2] / "shared"
PRISTINE = SHARED / "data" / "weights" / "niqe" / "niqe_pris_params.npz"
needs_pristine = pytest.mark.skipif(not PRISTINE.is_file(), reason="NIQE's parameters are not beside the checkout")


def frames(count: int = 5, size: int = 48, seed: int = 0) -> torch.Tensor:
    """Crops of a photograph, (F, 3, H, W) in [0, 1]."""
    picture = skimage.data.astronaut()
    starts = np.random.default_rng(seed).integers(0, 512 - size, size=(count, 2))
    crops = np.stack([picture[y : y + size, x : x + size] for y, x in starts])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def moving(count: int, size: int = 64, step: int = 2) -> torch.Tensor:
    """A camera moving over the photograph, (F, 3, H, W) in [0, 1]."""
    crops = np.stack([skimage.data.astronaut()[60 : 60 + size, 180 + step * i :][:, :size] for i in range(count)])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def noisy(images: torch.Tensor, deviation: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return images + deviation * torch.randn(images.shape, generator=generator)


def grey_model(seed: int = 0) -> Pristine:
    """A pristine model fitted here, for properties that do not depend on which one it is."""
    rows = torch.cat([features(luma(frames(1, 256, seed + i)), SMALL) for i in range(3)])
    return Pristine(rows.mean(0), torch.cov(rows.T))


# PSNR and SSIM


def test_psnr_of_known_noise() -> None:
    clean = torch.full((2, 3, 256, 256), 0.5)
    assert psnr(noisy(clean, 0.1), clean) == pytest.approx(20.0, abs=0.03)  # 10 log10(1 / 0.1^2)
    assert psnr(clean + 1 / 255, clean) == pytest.approx(20 * math.log10(255), abs=1e-4)
    assert psnr(clean, clean).tolist() == [PSNR_LIMIT] * 2


def test_psnr_and_ssim_agree_with_skimage() -> None:
    clean = frames(3, 64)
    dirty = noisy(clean, 0.08).clamp(0, 1)
    p, s = psnr(dirty, clean), ssim(dirty, clean)
    for i in range(3):
        a, b = (t[i].permute(1, 2, 0).double().numpy() for t in (clean, dirty))
        assert p[i] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-6)
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        assert s[i] == pytest.approx(structural_similarity(a, b, channel_axis=2, **settings), abs=1e-6)


def test_ssim_of_equal_frames_is_one_and_falls_with_noise() -> None:
    clean = frames(2)
    values = [float(ssim(noisy(clean, d), clean).mean()) for d in (0.0, 0.02, 0.1, 0.3)]
    assert values[0] == pytest.approx(1.0, abs=1e-12)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.5


# Metric classes


def unit_rows(count: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)), dim=1)


def metric_cases() -> list:
    clean = frames(6, 64)
    images = (noisy(clean, 0.1).clamp(0, 1), clean)
    rows = (unit_rows(6, 0), unit_rows(6, 1))
    return [
        pytest.param(PSNR(), images, id="psnr"),
        pytest.param(SSIM(), images, id="ssim"),
        pytest.param(NIQE(grey_model()), images[:1], id="niqe"),
        pytest.param(WarpingError("gt", DIS()), (images[0], moving(6)), id="e_warp_gt"),
        pytest.param(WarpingError("own", DIS()), (moving(6),), id="e_warp_own"),
        pytest.param(IDS("gt"), rows, id="ids"),
        pytest.param(SigmaIDS("gt"), rows, id="sigma_ids"),
    ]


@pytest.mark.parametrize(("metric", "arguments"), metric_cases())
def test_batches_and_processes_change_nothing(metric: ClipMetric, arguments: tuple[torch.Tensor, ...]) -> None:
    def run(*cuts: slice) -> ClipMetric:
        other = metric.clone()
        for cut in cuts:
            other.update(*(a[cut] for a in arguments))
        return other

    whole, parts = run(slice(0, 6)), run(slice(0, 2), slice(2, 3), slice(3, 6))
    assert parts.compute() == pytest.approx(float(whole.compute()), rel=1e-9)
    # Two clips in one process, and one clip in each of two whose states are summed.
    here = run(slice(0, 2))
    first = here.end_clip()
    here.update(*(a[2:] for a in arguments))
    second = here.end_clip()
    one, two = run(slice(0, 2)), run(slice(2, 6))
    for process in (one, two):
        process.end_clip()
    one.total, one.clips = one.total + two.total, one.clips + two.clips
    assert float(here.compute()) == pytest.approx((first + second) / 2, rel=1e-9)
    assert float(one.compute()) == pytest.approx(float(here.compute()), rel=1e-9)
    # Every state is a sum, which is what makes that legitimate.
    assert all(
        reduction is torch.sum or reduction.__name__ == "dim_zero_sum" for reduction in here._reductions.values()
    )


@pytest.mark.parametrize(("metric", "arguments"), metric_cases())
def test_labels_and_reset(metric: ClipMetric, arguments: tuple[torch.Tensor, ...]) -> None:
    assert metric.info.higher_is_better == metric.higher_is_better
    value = float(metric.forward(*arguments))
    assert metric.info.low <= value <= (math.inf if metric.info.high is None else metric.info.high)
    assert float(metric.compute()) == pytest.approx(value)
    metric.reset()
    assert float(metric.clips) == 0


def test_a_mean_is_over_clips_not_over_frames() -> None:
    metric = PSNR()
    clean = torch.zeros(1, 3, 16, 16)
    metric.update(clean + 0.1, clean)  # 20 dB, one frame
    metric.end_clip()
    metric.update((clean + 0.01).repeat(9, 1, 1, 1), clean.repeat(9, 1, 1, 1))  # 40 dB, nine frames
    assert float(metric.compute()) == pytest.approx(30.0, abs=1e-3)


# IDS


def test_ids_of_a_face_with_itself_is_one_and_sigma_zero() -> None:
    rows = unit_rows(7, 3)
    ids, sigma = IDS("gt"), SigmaIDS("gt")
    assert float(ids.forward(rows, rows)) == pytest.approx(1.0, abs=1e-6)
    assert float(sigma.forward(rows, rows)) == pytest.approx(0.0, abs=1e-4)


def test_sigma_ids_is_the_population_deviation_in_hundredths() -> None:
    rows, reference = unit_rows(9, 4), unit_rows(1, 5)[0]
    cosines = (rows.double() @ reference.double()).numpy()
    assert float(SigmaIDS("ref").forward(rows, reference)) == pytest.approx(100 * cosines.std(), rel=1e-5)
    assert math.isnan(float(SigmaIDS("ref").forward(rows[:1], reference)))


def test_jumps_at_borders_and_elsewhere_make_up_all_changes() -> None:
    ids = torch.tensor([0.5, 0.6, 0.6, 0.9, 0.8, 0.8], dtype=torch.float64)
    at, elsewhere = identity_jumps(ids, [3])
    assert float(at) == pytest.approx(0.3)
    assert float(elsewhere) == pytest.approx((0.1 + 0 + 0.1 + 0) / 4)
    holed = torch.cat([ids, torch.tensor([torch.nan])])
    assert identity_jumps(holed, [3]) == (at, elsewhere)
    assert torch.isnan(identity_jumps(ids, [])[0])


def test_frames_without_a_face_do_not_count() -> None:
    rows, reference = unit_rows(4, 6), unit_rows(1, 7)[0]
    holed = torch.cat([rows[:2], torch.full((1, 16), torch.nan), rows[2:]])
    assert torch.isnan(identity_similarity(holed, reference)).tolist() == [False, False, True, False, False]
    for metric in (IDS("ref"), SigmaIDS("ref")):
        assert float(metric.clone().forward(holed, reference)) == pytest.approx(float(metric.forward(rows, reference)))


def test_landmarks_of_an_aligned_square_come_from_the_template() -> None:
    finder = LandmarkFinder(None)
    points = finder.find(np.zeros((128, 128, 3), np.uint8))
    assert points.shape == (5, 2)
    assert 0 < points.min() < points.max() < 128
    assert np.isnan(finder.find(np.zeros((128, 96, 3), np.uint8))).all()
    assert finder.counts == {"template": 1, "no face": 1}


def test_a_reference_needs_one_face() -> None:
    class Blind:
        name, weights = "blind", {}

        def detect(self, image: np.ndarray) -> list:
            return []

        def follow(self, image: np.ndarray, face: object) -> None:
            """Never certain."""

    with pytest.raises(UserError, match=r"no face found in the reference me\.png"):
        embed_reference(None, Blind(), {"me.png": np.zeros((64, 64, 3), np.uint8)})


# NIQE


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.5, 1.5)])
def test_aggd_fit_recovers_its_parameters(shape: float, left: float, right: float) -> None:
    rng = np.random.default_rng(0)
    # |x| = beta G^(1/a) with G gamma(1/a) distributed; a side's share of the mass is that of its scale.
    magnitude = rng.gamma(1 / shape, size=400_000) ** (1 / shape)
    negative = rng.random(400_000) < left / (left + right)
    samples = torch.from_numpy(np.where(negative, -left * magnitude, right * magnitude))
    alpha, beta_l, beta_r, eta = fit_aggd(samples)
    assert float(alpha) == pytest.approx(shape, rel=0.03)
    assert float(beta_l) == pytest.approx(left, rel=0.05)
    assert float(beta_r) == pytest.approx(right, rel=0.05)
    # The mean of the density is (beta_r - beta_l) Gamma(2/a) / Gamma(1/a).
    assert float(eta) == pytest.approx(float(samples.mean()), abs=0.02 * max(1.0, float(samples.abs().mean())))


def test_aggd_fit_is_blind_to_scale_and_mirrors() -> None:
    samples = torch.randn(4, 500, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.2
    alpha, left, right, eta = fit_aggd(samples)
    scaled, mirrored = fit_aggd(3 * samples), fit_aggd(-samples)
    torch.testing.assert_close(scaled, (alpha, 3 * left, 3 * right, 3 * eta))
    torch.testing.assert_close(mirrored, (alpha, right, left, -eta))
    assert torch.isnan(fit_aggd(torch.zeros(10, dtype=torch.float64))[0])


def test_mscn_removes_brightness_and_is_zero_on_flat_pictures() -> None:
    grey = luma(frames(1, 64))
    torch.testing.assert_close(mscn(grey + 17), mscn(grey), atol=1e-5, rtol=0)
    assert float(mscn(torch.full((1, 1, 32, 32), 99.0, dtype=torch.float64)).abs().max()) < 1e-6


def test_halving_keeps_constants_and_ramps() -> None:
    ramp = torch.arange(64, dtype=torch.float64).expand(1, 1, 64, 64)
    inner = halve(ramp)[0, 0, 8:-8, 8:-8]
    torch.testing.assert_close(inner[0], torch.arange(8, 24, dtype=torch.float64) * 2 + 0.5)
    torch.testing.assert_close(halve(ramp * 0 + 3), torch.full((1, 1, 32, 32), 3.0, dtype=torch.float64))


def test_niqe_distance_is_mahalanobis_where_it_can_be_derived() -> None:
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(200, 36, generator=generator, dtype=torch.float64)
    mean, covariance = rows.mean(0), torch.cov(rows.T)
    assert float(distance(rows, Pristine(mean, covariance))) == pytest.approx(0.0, abs=1e-9)
    gap = torch.linspace(0, 1, 36, dtype=torch.float64)
    expected = (gap @ torch.linalg.solve(covariance, gap)).sqrt()
    assert float(distance(rows, Pristine(mean + gap, covariance))) == pytest.approx(float(expected), rel=1e-9)
    holed = torch.cat([rows, torch.full((3, 36), torch.nan, dtype=torch.float64)])
    assert float(distance(holed, Pristine(mean + gap, covariance))) == pytest.approx(float(expected), rel=1e-9)
    assert math.isnan(distance(rows[:1], Pristine(mean, covariance)))


def test_niqe_blocks_by_size() -> None:
    assert choose_blocks(128, 128) == SMALL
    assert choose_blocks(191, 720) == SMALL
    assert choose_blocks(192, 192) == STANDARD
    assert len(features(luma(frames(1, 128)), SMALL)) == 49
    assert len(features(luma(frames(1, 250)), STANDARD)) == 4
    model = grey_model()
    assert torch.isnan(niqe(frames(2, 32), model)).all()  # one block
    assert torch.isnan(niqe(torch.zeros(1, 3, 128, 128), model)).all()  # no texture
    assert torch.equal(niqe(frames(2, 64), model), niqe(frames(2, 64), model))


def degraded(image: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    half = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return {
        "blur": cv2.GaussianBlur(image, (0, 0), 1.5),
        "noise": (image + rng.normal(0, 15, image.shape)).clip(0, 255).round().astype(np.uint8),
        "jpeg": cv2.imdecode(jpeg, cv2.IMREAD_COLOR),
        "bicubic": cv2.resize(half, image.shape[1::-1], interpolation=cv2.INTER_CUBIC),
    }


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


@needs_pristine
@pytest.mark.parametrize("size", [128, 256])
def test_damage_raises_niqe_of_photographs(size: int) -> None:
    model = load_pristine(PRISTINE)
    for picture in (skimage.data.astronaut()[:256, 96:352], skimage.data.chelsea()[20:276, 100:356]):
        sharp = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        base = float(niqe(tensor(sharp), model))
        for kind, image in degraded(sharp).items():
            assert float(niqe(tensor(image), model)) > base, (kind, size)


@needs_pristine
def test_damage_raises_niqe_of_real_faces() -> None:
    files = sorted((SHARED / "data" / "images" / "celebref512").glob("*/*"))[::3]
    if not files:
        pytest.skip("no pictures beside the checkout")
    model = load_pristine(PRISTINE)
    faces = [cv2.resize(cv2.imread(str(f)), (128, 128), interpolation=cv2.INTER_AREA)[..., ::-1] for f in files]
    base = np.array([float(niqe(tensor(face), model)) for face in faces])
    for kind in ("blur", "noise", "jpeg", "bicubic"):
        worse = np.array([float(niqe(tensor(degraded(face)[kind]), model)) for face in faces])
        assert np.mean(worse > base) >= 0.8, kind
        assert worse.mean() > base.mean() + 0.3, kind


def test_pristine_parameters_of_a_wrong_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", nothing=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz does not hold NIQE"):
        load_pristine(tmp_path / "other.npz")
