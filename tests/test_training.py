"""Data and trainings, through the real entry point on a few made pictures."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.training_options import OptimizerConfig
from ipfvr.data.faces import Draw, FaceData, PictureAndClipSampler, camera_path
from ipfvr.data.layout import list_identities
from ipfvr.data.sample import sample_clip
from ipfvr.fit import main
from ipfvr.models.backbone import make_denoiser
from ipfvr.training.base import correlated_noise
from ipfvr.training.common import learning_rate
from ipfvr.training.discriminator import PatchDiscriminator
from ipfvr.training.vae import high_frequency_loss
from ipfvr.video.writer import VideoWriter


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people with two pictures each, one of them with a clip, one of them held out."""
    root = tmp_path_factory.mktemp("data")
    frames = sample_clip(9, 40)
    for number, name in enumerate(("anna", "ben", "carl")):
        (root / name / "reference").mkdir(parents=True)
        for i in range(2):
            Image.fromarray(frames[3 * number + i]).save(root / name / "reference" / f"{i}.png")
    (root / "anna" / "train").mkdir()
    with VideoWriter(root / "anna" / "train" / "a.mp4", 40, 40, 25) as writer:
        for frame in frames:
            writer.write(frame)
    (root / "heldout.yaml").write_text("identities: [carl]\n")
    return root


def pairs(root: Path, output: Path, *more: str) -> list[str]:
    return [
        "preset=tiny",
        f"data.root={root}",
        f"data.heldout={root / 'heldout.yaml'}",
        "data.batch_size=2",
        "data.clip_frames=3",
        "data.captions=[]",
        "data.workers=0",
        f"train.output={output}",
        "train.wandb=disabled",
        "train.precision=fp32",
        "train.accelerator=cpu",
        "train.validation_batches=1",
        "train.validate_every=2",
        "train.log_every=1",
        *more,
    ]


def test_people_held_out_are_never_drawn(root: Path) -> None:
    assert [p.name for p in list_identities(root, root / "heldout.yaml")] == ["anna", "ben"]
    assert [p.name for p in list_identities(root, root / "heldout.yaml", held=True)] == ["carl"]
    data = FaceData(load_config(None, pairs(root, root, "data.clip_every=2")))
    data.setup()
    assert {f.parent.parent.name for f in data.train.pictures.files + data.train.clips.files} == {"anna", "ben"}
    assert {f.parent.parent.name for f in data.validation.files} == {"carl"}


def test_a_batch_depends_on_its_number_alone() -> None:
    config = load_config(None, ["preset=tiny", "data.clip_every=3", "data.batch_size=4", "data.clip_batch_size=1"])
    first = list(itertools.islice(PictureAndClipSampler(10, 2, config), 9))
    assert list(itertools.islice(PictureAndClipSampler(10, 2, config, start=4), 5)) == first[4:]
    of_clips = [min(d.index for d in batch) >= 10 for batch in first]
    assert of_clips == [True, False, False] * 3
    assert list(itertools.islice(PictureAndClipSampler(10, 2, config, rank=1, world=2), 9)) != first


def test_clips_are_made_of_pictures_by_a_moving_camera(root: Path) -> None:
    config = load_config(None, pairs(root, root, "data.clip_every=2", "data.moving_pictures=0.5"))
    drawn = [batch[0].index for batch in itertools.islice(PictureAndClipSampler(10, 2, config), 0, 80, 2)]
    assert {10 <= i < 12 for i in drawn} == {True, False}
    assert all(10 <= i < 22 for i in drawn)
    data = FaceData(config)
    data.setup()
    item = data.train[Draw(len(data.train.pictures) + data.clips, 5)]
    assert item["pixels"].shape == (3, 3, 32, 32)
    assert not torch.equal(item["pixels"][0], item["pixels"][2])


def test_the_camera_keeps_shapes_and_stays_near() -> None:
    matrix = np.array([[0.8, -0.1, 3.0], [0.1, 0.8, -2.0]])
    path = camera_path(matrix, 128, 24, np.random.default_rng(0))
    for frame in path:  # similarities: a turn and a zoom of one size
        assert abs(frame[0, 0] - frame[1, 1]) < 1e-12
        assert abs(frame[0, 1] + frame[1, 0]) < 1e-12
    moved = np.stack(path)[:, :, 2] - matrix[:, 2]
    assert 0 < np.abs(moved).max() < 0.06 * 128
    assert np.abs(np.diff(moved, axis=0)).max() < 1.5


def test_an_item_is_a_pair_at_the_configured_sizes(root: Path) -> None:
    data = FaceData(load_config(None, pairs(root, root, "data.clip_every=2")))
    data.setup()
    for index, frames in ((0, 1), (len(data.train.pictures), 3)):
        item, again = data.train[Draw(index, 5)], data.train[Draw(index, 5)]
        assert item["pixels"].shape == (frames, 3, 32, 32)
        assert item["low"].shape == (frames, 3, 32, 32)
        assert torch.equal(item["pixels"], again["pixels"])
        assert torch.equal(item["low"], again["low"])
        assert not torch.equal(item["pixels"], data.train[Draw(index, 6)]["pixels"])
        assert -1 <= item["pixels"].min() < item["pixels"].max() <= 1


def test_without_augmentation_a_crop_is_only_resized(root: Path) -> None:
    data = FaceData(load_config(None, pairs(root, root, "video.size=40")))
    data.setup()
    item = data.validation[Draw(0, 0)]
    stored = np.asarray(Image.open(data.validation.files[0])).astype(np.float32) / 127.5 - 1
    assert np.abs(item["pixels"][0].permute(1, 2, 0).numpy() - stored).max() < 1e-6


def test_learning_rate_rises_and_falls() -> None:
    settings = OptimizerConfig(warmup=10, steps=100, final_lr=0.1)
    rates = [learning_rate(step, min(1.0, step / settings.steps), settings) for step in range(0, 200)]
    assert rates[0] == pytest.approx(0.1, abs=1e-3)
    assert max(rates) <= 1
    assert rates[100] == rates[199] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_training_noise_has_the_samplers_distribution(correlation: float) -> None:
    torch.manual_seed(0)
    noise = correlated_noise(torch.empty(1, 8, 2, 64, 64), correlation)
    a, b = noise[0, :, 0].flatten(), noise[0, :, 1].flatten()
    assert a.var() == pytest.approx(1, abs=0.03)
    assert (a * b).mean() == pytest.approx(correlation, abs=0.03)


def test_high_frequency_loss_does_not_see_brightness() -> None:
    x = torch.rand(1, 3, 8, 8)
    assert high_frequency_loss(x + 0.5, x) == pytest.approx(0, abs=1e-6)
    assert high_frequency_loss(x.flip(-1), x) > 0.1
    assert PatchDiscriminator()(torch.rand(2, 3, 32, 32)).shape == (2, 1, 4, 4)


@pytest.mark.parametrize("module", ["base", "vae", "clip"])
def test_fit_trains_stops_and_goes_on(
    root: Path, tmp_path: Path, module: str, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = tmp_path / "one.yaml"
    experiment.write_text(
        "preset: tiny\nvae: {output_norm: false, block_out_channels: [48]}\n"
        "loss: {adversarial: 0.01, restored: 0.5}\ndata: {clip_every: 2}\n"
    )
    output = tmp_path / "run"
    common = ["--config", str(experiment), *pairs(root, output, f"train.module={module}")]
    main([*common, "optimizer.steps=2"])
    names = {"base": ["denoiser"], "vae": ["vae"], "clip": ["text", "image"]}[module]
    first = {name: (output / "weights" / f"{name}.safetensors").read_bytes() for name in names}
    with caplog.at_level(logging.INFO, "ipfvr"):
        main([*common, "optimizer.steps=4"])
    assert "going on from step" in caplog.text
    assert all((output / "weights" / f"{name}.safetensors").read_bytes() != first[name] for name in names)
    assert (output / "config.json").is_file()
    assert all(len((output / "log" / f"from_{n}" / "metrics.csv").read_text().splitlines()) > 1 for n in (0, 2))
    if module == "base":
        file = output / "weights" / "denoiser.safetensors"
        make_denoiser(load_config(None, ["preset=tiny", f"weights.denoiser={file}"]))


def test_what_a_user_can_get_wrong(root: Path, tmp_path: Path) -> None:
    experiment = tmp_path / "one.yaml"
    experiment.write_text("preset: tiny\n")
    cases = [
        ((f"data.root={tmp_path / 'none'}",), "none"),
        (("data.heldout=nothing.yaml",), "nothing.yaml"),
        (("train.module=nonsense",), "nonsense"),
        (("train.precision=fp8",), "fp8"),
        (("data.captions=[no.csv]",), "no.csv"),
    ]
    for more, says in cases:
        with pytest.raises(UserError, match=says):
            main(["--config", str(experiment), *pairs(root, tmp_path / "run", *more)])
