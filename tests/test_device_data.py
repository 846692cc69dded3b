"""Batches made on the device: the twins of Eq. 13's and the augmentation's parts agree with the originals."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.pixels import to_tensor
from ipfvr.data.device.batches import DeviceBatches
from ipfvr.data.device.soften import downscale, soften_all, with_coloured_noise
from ipfvr.data.device.store import Scene, Store
from ipfvr.data.device.warps import blur, displacements, recolour, similarities, warp
from ipfvr.data.layout import list_identities
from ipfvr.data.sample import sample_clip
from ipfvr.degradation.pipeline import Parameters, Round, degrade, degrade_softened, sample_parameters, soften
from ipfvr.degradation.pipeline import blur as blur_one
from ipfvr.degradation.pipeline import downscale as downscale_one
from ipfvr.training.balance import Balance
from ipfvr.video.writer import write_picture


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return sample_clip(1, 64)[0]


def channels_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.7, 4.0])
def test_blur_is_the_blur_of_eq_13(picture: np.ndarray, sigma: float) -> None:
    """Also beside a frame that is blurred more, whose kernel is longer."""
    frames = channels_first(picture).repeat(2, 1, 1, 1)
    ours = blur(frames, torch.tensor([sigma, 4.0]))[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - blur_one(picture.astype(np.float32), sigma)).max() < 0.01


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("resize", ["area", "bicubic"])
def test_downscale_is_the_downscale_of_eq_13(picture: np.ndarray, scale: int, resize: str) -> None:
    ours = downscale(channels_first(picture), scale, resize)[0].permute(1, 2, 0).numpy()
    theirs = downscale_one(picture.astype(np.float32), scale, resize)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 0.01


def test_softened_clips_are_those_of_eq_13_but_for_the_noise(picture: np.ndarray) -> None:
    clip = np.stack([picture, picture[::-1]])
    rounds = [Round(1.2, 0.0, 20, 4, "bicubic"), Round(0.4, 0.0, 20, 2, "area"), Round(0.0, 0.0, 20, 1, "area")]
    parameters = [Parameters("heavy", 1, 64, (r,)) for r in rounds]
    found = soften_all(to_tensor(clip)[None].repeat(4, 1, 1, 1, 1), [*parameters, None], [0.0] * 4)
    for ours, this in zip(found[:3], parameters, strict=True):
        theirs = np.stack(list(soften(clip, this, 0))).astype(int)
        assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.array_equal(found[3], clip)


def test_noise_has_the_spread_that_was_drawn(picture: np.ndarray) -> None:
    grey = torch.zeros(2, 1, 3, 64, 64)
    parameters = [Parameters("heavy", 1, 64, (Round(0.0, delta, 20, 1, "area"),)) for delta in (3.0, 9.0)]
    for found, delta in zip(soften_all(grey, parameters, [0.0, 0.0]), (3.0, 9.0), strict=True):
        assert found.astype(float).std() == pytest.approx(delta, rel=0.05)


def test_what_is_left_after_softening_is_the_rest_of_eq_13(picture: np.ndarray) -> None:
    clip, parameters = np.stack([picture] * 3), sample_parameters("heavy", 2, 64, 5)
    rest = np.stack(list(degrade_softened(soften(clip, parameters, 0), parameters)))
    assert np.array_equal(rest, degrade(clip, parameters))


def test_coloured_noise_leaves_luma_alone(picture: np.ndarray) -> None:
    clip = channels_first(picture)[None]
    noisy = with_coloured_noise(clip, torch.tensor([8.0]))
    luma = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 1, 3, 1, 1)
    assert (noisy - clip).abs().mean() > 1
    assert ((noisy - clip) * luma).sum(2).abs().max() < 0.01


def test_a_warp_is_opencvs(picture: np.ndarray) -> None:
    matrices, _ = similarities(3, 64, 0.08, True, torch.Generator().manual_seed(2))
    ours = warp(channels_first(picture).repeat(3, 1, 1, 1), matrices).clamp(0, 255)
    for found, matrix in zip(ours, matrices.numpy(), strict=True):
        theirs = cv2.warpAffine(picture, matrix, (64, 64), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        inside = np.abs(found.permute(1, 2, 0).numpy() - theirs)[8:-8, 8:-8]
        assert inside.mean() < 1.0


def test_similarities_mirror_about_the_middle() -> None:
    matrices, mirrored = similarities(64, 32, 0.0, True, torch.Generator().manual_seed(0))
    assert 0 < mirrored.sum() < 64
    point = matrices[:, :, 0] * 10 + matrices[:, :, 1] * 7 + matrices[:, :, 2]
    assert torch.allclose(point[:, 0], torch.where(mirrored, 21.0, 10.0).double())
    assert torch.allclose(point[:, 1], torch.full((64,), 7.0).double())


def test_displacements_and_colours_are_each_frames_own(picture: np.ndarray) -> None:
    fields = displacements(2, 32, torch.tensor([0.0, 0.02]), "cpu")
    assert not fields[0].any()
    assert 0.1 < fields[1].std() < 1.5
    changed = recolour(to_tensor(np.stack([picture] * 2)))
    assert changed.abs().max() <= 1
    assert (changed[0] - changed[1]).abs().mean() > 0.005


def test_references_are_other_pictures_then_far_frames_then_oneself() -> None:
    people = ["a", "a", "b", *["c"] * 9]
    store = Store(
        torch.empty(12, 3, 2, 2), people, [""] * 12, np.arange(3), torch.zeros(12), {"a": [0, 1], "b": [2]}, {}
    )
    store.scenes["c"] = [Scene(3, 9)]
    rng = np.random.default_rng(0)
    assert store.references(0, 2, 0.0, rng) == ([1, 1], False)
    assert store.references(0, 1, 1.0, rng) == ([0], True)
    assert store.references(2, 1, 0.0, rng) == ([2], True)
    for _ in range(20):
        (number,), itself = store.references(4, 1, 0.0, rng)
        assert not itself
        assert abs(number - 4) >= 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    for person in range(3):
        for number in range(2):
            picture = sample_clip(6, 40)[2 * person + number]
            write_picture(folder / f"p{person}" / "reference" / f"{number}.png", picture)
    return folder


def test_batches_are_those_that_a_training_reads(root: Path) -> None:
    sizes = ["data.batch_size=3", "data.clip_batch_size=2", "data.clip_frames=3", "data.clip_every=2", "data.workers=1"]
    options = ["preset=tiny", "data.references=2", "data.levels=[clean,heavy]", "data.min_side=1", *sizes]
    config = load_config(None, [*options, f"data.root={root}", "data.face_only=[p1]", "data.face_motion=0.01"])
    size = config.video.size
    batches = iter(DeviceBatches(list_identities(root), config, "cpu"))
    clips, pictures = next(batches), next(batches)
    batches.close()
    for batch, count, frames in ((clips, 2, 3), (pictures, 3, 1)):
        assert batch["pixels"].shape == batch["low"].shape == (count, frames, 3, size, size)
        assert batch["reference"].shape[0] == count
        assert batch["landmarks"].shape == (count, 5, 2)
        assert len(batch["text"]) == count
        assert batch["pixels"].abs().max() <= 1
        alone = torch.tensor([name == "p1" for name in batch["identity"]])
        assert torch.equal(batch["weight"].flatten(1).min(1).values < 1, alone)
    # A batch depends on its number: a training that goes on sees the next, not the first again.
    later = iter(DeviceBatches(list_identities(root), config, "cpu", start=1))
    assert next(later)["identity"] == pictures["identity"]
    later.close()


def test_a_fault_of_the_process_that_makes_batches_is_said(tmp_path: Path) -> None:
    (tmp_path / "nobody").mkdir()
    batches = iter(DeviceBatches([tmp_path / "nobody"], load_config(None, ["preset=tiny", "data.workers=1"]), "cpu"))
    with pytest.raises(UserError, match="no pictures in"):
        next(batches)


def test_balanced_gradients_are_as_long_as_their_shares() -> None:
    at = torch.randn(4, 3, requires_grad=True)
    other = torch.randn(4, 3)
    losses = {"small": (1e-6 * (at * other).sum(), 0.5), "large": (1e6 * at.square().sum(), 2.0)}
    anchor = torch.tensor(3.0)
    alone = {name: Balance()(at, {name: losses[name]}, anchor) for name in losses}
    assert alone["small"].norm() == pytest.approx(1.5, rel=1e-4)
    assert alone["large"].norm() == pytest.approx(6.0, rel=1e-4)
    assert torch.allclose(Balance()(at, losses, anchor), alone["small"] + alone["large"], atol=1e-5)
