"""How much of a change is kept, and what a reference changes: limits, invariance, and the way through a restoration."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from ipfvr.config import load_config
from ipfvr.errors import UserError
from ipfvr.faces.gain import change_energies, change_gain, keep_change
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.options import Config, GainConfig
from ipfvr.restoration import Restorer
from ipfvr.video.writer import write_picture, write_video

SIZE = 64
MINI = load_config(None, []).gain


def clips(spread: float, blur: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A grey clip and the clip changed by noise of a standard deviation, blurred where ``blur``."""
    rng = np.random.default_rng(0)
    low = np.full((3, SIZE, SIZE, 3), 128, np.uint8)
    noise = rng.standard_normal((3, SIZE, SIZE, 1)) * spread
    if blur:
        noise = np.stack([cv2.GaussianBlur(n, (0, 0), blur)[..., None] for n in noise])
        noise *= spread / noise.std()
    return np.rint(low + noise).clip(0, 255).astype(np.uint8), low


def test_energies_are_those_of_the_change() -> None:
    whole, fine = change_energies(*clips(10))
    assert whole == pytest.approx(100, rel=0.1)
    assert 0.5 * whole < fine <= whole
    whole, fine = change_energies(*clips(10, blur=4))
    assert fine < 0.2 * whole
    assert change_energies(*(clips(0)))[0] < 1e-3


def test_a_floor_of_one_keeps_the_change_whole_and_no_change_stays_none() -> None:
    restored, low = clips(10)
    assert keep_change(restored, low, GainConfig()) is restored
    assert np.array_equal(keep_change(low, low, MINI), low)


def test_the_gain_of_mini_rises_with_strength_falls_with_fineness_and_never_is_nothing() -> None:
    energies = 10.0 ** np.arange(-3, 6)
    gains = [change_gain(e, 0.2 * e, MINI) for e in energies]
    assert gains == sorted(gains)
    assert gains[0] >= MINI.floor > 0
    assert gains[-1] > 0.99
    assert change_gain(50, 40, MINI) < change_gain(50, 2, MINI)


def test_what_is_kept_lies_between_the_source_and_the_restoration() -> None:
    for restored, low in (clips(3), clips(10, blur=3), clips(40, blur=5)):
        gain = change_gain(*change_energies(restored, low), MINI)
        kept = keep_change(restored, low, MINI)
        assert np.abs(kept - (low + gain * (restored.astype(float) - low))).max() <= 0.51


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """The sample's face as an aligned square of 128 pixels."""
    from ipfvr.data.sample import portrait
    from ipfvr.faces.align import crop, crop_matrix
    from ipfvr.faces.detect import make_detector
    from ipfvr.options import FacesConfig

    picture = portrait()
    found = make_detector(FacesConfig()).detect(picture)[0]
    return crop(picture, crop_matrix(found.landmarks, 128), 128)


@pytest.mark.parametrize("fault", ["clean", "blurred", "compressed", "tiny"])
def test_a_reference_never_is_without_effect(face: np.ndarray, fault: str) -> None:
    """Whatever is wrong with the clip: with and without the picture the squares differ."""
    low = {
        "clean": face,
        "blurred": cv2.GaussianBlur(face, (0, 0), 2.0),
        "compressed": cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], 1),
        "tiny": cv2.resize(cv2.resize(face, (32, 32), interpolation=cv2.INTER_AREA), (128, 128)),
    }[fault]
    restorer = Restorer(load_config(None, []))
    cat = cv2.resize(data.chelsea()[:, 60:360], (128, 128), interpolation=cv2.INTER_AREA)
    restorer.show_references([face])
    shown = restorer.restore_clip(low[None], [0])
    with restorer.showing_nobody():
        alone = restorer.restore_clip(low[None], [0])
    assert not np.array_equal(shown, alone)
    assert np.array_equal(restorer.restore_clip(low[None], [0]), shown)  # the reference is shown again
    restorer.show_references([cat])
    assert not np.array_equal(restorer.restore_clip(low[None], [0]), shown)


def restored(tmp_path: Path, config: Config, **options: object) -> tuple[dict, np.ndarray]:
    from ipfvr.video.reader import read_frames

    job = Job(tmp_path / "in.mp4", tmp_path / "out.mp4", aligned=True, **options)
    report = restore(job, config, quiet=True)
    assert json.loads((tmp_path / "out.json").read_text())["notes"] == report["notes"]
    return report, read_frames(tmp_path / "out.mp4")


def test_the_report_says_what_a_reference_changes_and_strength_scales_the_change(
    tmp_path: Path, face: np.ndarray
) -> None:
    from ipfvr.video.reader import read_frames

    low = cv2.resize(cv2.resize(face, (40, 40), interpolation=cv2.INTER_AREA), (128, 128))
    write_video(tmp_path / "in.mp4", np.repeat(low[None], 3, 0), Fraction(25), 0)
    write_picture(tmp_path / "photo.png", face)
    config = load_config(None, ["video.crf=0"])
    report, whole = restored(tmp_path, config, references=(tmp_path / "photo.png",))
    assert report["reference_change"] > 0
    _, half = restored(tmp_path, config, references=(tmp_path / "photo.png",), strength=0.5)
    report, none = restored(tmp_path, config, strength=0.0)
    assert "reference_change" not in report
    source = read_frames(tmp_path / "in.mp4")
    assert np.abs(none.astype(int) - source).mean() < 0.6  # but for the encoding
    full = np.abs(whole.astype(int) - source).mean()
    assert np.abs(half.astype(int) - source).mean() == pytest.approx(full / 2, rel=0.25)


def test_a_strength_out_of_range_is_refused(tmp_path: Path, face: np.ndarray) -> None:
    write_video(tmp_path / "in.mp4", face[None], Fraction(25), 0)
    with pytest.raises(UserError, match="strength"):
        restored(tmp_path, load_config(None, []), strength=1.5)
