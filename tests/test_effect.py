"""What a reference and a strength change, through whole restorations."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.writer import write_picture, write_video


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """The sample's face as an aligned square of 256 pixels."""
    from ipfvr.core.options import FacesConfig
    from ipfvr.data.sample import portrait
    from ipfvr.faces.align import crop, crop_matrix
    from ipfvr.faces.detect import make_detector

    picture = portrait()
    found = make_detector(FacesConfig()).detect(picture)[0]
    return crop(picture, crop_matrix(found.landmarks, 256), 256)


@pytest.mark.parametrize("fault", ["clean", "blurred", "compressed", "tiny"])
def test_a_reference_never_is_without_effect(face: np.ndarray, fault: str) -> None:
    """Whatever is wrong with the clip: with and without the picture the squares differ."""
    low = {
        "clean": face,
        "blurred": cv2.GaussianBlur(face, (0, 0), 2.0),
        "compressed": cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], 1),
        "tiny": cv2.resize(cv2.resize(face, (64, 64), interpolation=cv2.INTER_AREA), (256, 256)),
    }[fault]
    restorer = Restorer(load_config(None, []))
    cat = cv2.resize(data.chelsea()[:, 60:360], (256, 256), interpolation=cv2.INTER_AREA)
    shown, alone, other = (restorer.restore(low[None], restorer.conditions(r)) for r in ([face], [], [cat]))
    assert not np.array_equal(shown, alone)
    assert not np.array_equal(shown, other)
    # Nothing of anybody stays in the restorer.
    assert np.array_equal(restorer.restore(low[None], restorer.conditions([face])), shown)


def restored(tmp_path: Path, config: Config, **options: object) -> tuple[dict, np.ndarray]:
    from ipfvr.video.reader import read_frames

    job = Job(tmp_path / "in.mp4", tmp_path / "out.mp4", aligned=True, **options)
    report = restore(job, config)
    assert json.loads((tmp_path / "out.json").read_text())["notes"] == report["notes"]
    return report, read_frames(tmp_path / "out.mp4")


def test_the_report_says_what_a_reference_changes_and_strength_scales_the_change(
    tmp_path: Path, face: np.ndarray
) -> None:
    from ipfvr.video.reader import read_frames

    low = cv2.resize(cv2.resize(face, (80, 80), interpolation=cv2.INTER_AREA), (256, 256))
    write_video(tmp_path / "in.mp4", np.repeat(low[None], 3, 0), Fraction(25), 0)
    write_picture(tmp_path / "photo.png", face)
    config = load_config(None, ["video.crf=0", "learn.always=false"])
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


def test_a_change_of_nothing_in_latents_is_none_in_pixels(face: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the codec cannot hold: the frames come back to the bit, though the codec alone would change them."""
    noise = np.random.default_rng(0).integers(-40, 40, face.shape)
    low = (face + noise).clip(0, 255).astype(np.uint8)
    restorer = Restorer(load_config(None, []))
    nobody = restorer.conditions()
    monkeypatch.setattr(restorer.sampler, "restore_latent", lambda _, clip, *rest, **options: clip.latent)
    assert np.array_equal(restorer.restore(low[None], nobody)[0], low)
    monkeypatch.setattr(restorer.config.sampler, "residual_scale", 0.0)  # where latents themselves are diffused
    assert np.abs(restorer.restore(low[None], nobody)[0].astype(int) - low).mean() > 5
