"""Training of the landmark network on a handful of squares."""

from __future__ import annotations

import json
from itertools import islice

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import FacesConfig
from ipfvr.faces.align import crop, crop_matrix, face_template
from ipfvr.faces.detect import CenterFaceDetector
from ipfvr.faces.landmarks import PATCH, UNIT, LandmarkNet, load_landmarks, patch_template
from ipfvr.training import landmarks as training
from ipfvr.training.landmarks import STORE, LandmarkSet, LandmarkTraining, Patches, landmark_data
from ipfvr.training.run import fit


def aligned_store():
    return (patch_template() - (PATCH - 1) / 2) * 1.3 + (STORE - 1) / 2


@pytest.fixture(scope="module")
def dots():
    """Squares that show nothing but a white dot at each landmark."""
    squares, points = [], []
    rng = np.random.default_rng(0)
    for _ in range(4):
        at = aligned_store() + rng.normal(0, 1, (5, 2))
        y, x = np.mgrid[:STORE, :STORE]
        dot = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 12.0) for px, py in at)
        squares.append((255 * np.clip(dot, 0, 1)).astype(np.uint8))
        points.append(at)
    return LandmarkSet(np.stack(squares), np.stack(points), np.zeros((2, PATCH, PATCH), np.uint8))


@pytest.fixture
def picture_root(tmp_path):
    """One picture set: ca001 is in training, ca010 is held out."""
    image = skimage.data.astronaut()
    found = CenterFaceDetector(FacesConfig()).detect(image)[0].landmarks
    square = crop(image, crop_matrix(found, 256), 256)
    entries = []
    for name in ("ca001", "ca010"):
        folder = tmp_path / "images" / "set" / name
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), square[..., ::-1])
        where = f"images/set/{name}/a.png"
        entries.append({"file": where, "identity": name, "landmarks256": face_template(256).tolist()})
    (tmp_path / "manifest.json").write_text(json.dumps({"entries": entries}))
    (tmp_path / "heldout.yaml").write_text("identities: [ca010]\n")
    return tmp_path


def test_targets_are_where_the_points_are_seen(dots, monkeypatch):
    monkeypatch.setattr(training, "degrade_patch", lambda patch, rng: patch)
    batches = Patches(dots, 24, seed=0)
    batch = next(iter(batches))
    seen = 0
    for patch, shift, face in zip(batch["patches"], batch["shift"], batch["face"], strict=True):
        points = patch_template() + shift.numpy() * UNIT
        inside = (points > 1).all() and (points < PATCH - 2).all()
        if face and inside:
            column, row = points.round().astype(int).T
            assert (patch[0].numpy()[row, column] > 150).all()
            seen += 1
    assert seen > 5


def test_batches_depend_on_the_seed_and_their_number_alone(dots):
    whole = list(islice(Patches(dots, 4, seed=3), 3))
    resumed = next(iter(Patches(dots, 4, seed=3, start=2)))
    assert all(torch.equal(resumed[key], whole[2][key]) for key in resumed)
    assert not torch.equal(whole[0]["patches"], whole[1]["patches"])


def test_people_held_out_are_left_out(picture_root, monkeypatch):
    monkeypatch.setattr(training, "make_detector", lambda _: CenterFaceDetector(FacesConfig()))
    data = landmark_data(picture_root, picture_root / "heldout.yaml")
    assert len(data.faces) == 1
    assert data.faces.shape[1:] == (STORE, STORE)
    assert np.allclose(data.landmarks[0], aligned_store(), atol=1e-6)
    assert len(training.heldout_data(picture_root, picture_root / "heldout.yaml")) == 1


def test_labels_are_the_detectors(picture_root):
    image = skimage.data.astronaut()
    detector = CenterFaceDetector(FacesConfig())
    found = training.label(image, detector)
    assert np.abs(found - detector.detect(image)[0].landmarks).max() < 2
    assert training.label(skimage.data.coffee(), detector) is None


def test_training_through_fit(dots, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "landmark_data", lambda *_: dots)
    monkeypatch.setattr(training, "heldout_data", lambda *_: [(dots.faces[0], dots.landmarks[0])])
    pairs = ["preset=tiny", "train.module=landmarks", f"train.output={tmp_path}", "optimizer.steps=3"]
    pairs += ["data.batch_size=4", "train.wandb=disabled", "train.accelerator=cpu", "train.precision=fp32"]
    folder = fit(load_config(None, [*pairs, "train.validate_every=3"]))
    model = load_landmarks(folder / "landmarks.safetensors")
    points, score = model.refine(dots.faces[0], dots.landmarks[0])
    assert points.shape == (5, 2)
    assert 0 <= score <= 1


def test_network_learns_the_dots(dots, monkeypatch):
    monkeypatch.setattr(training, "degrade_patch", lambda patch, rng: patch)
    torch.manual_seed(0)
    module = LandmarkTraining(load_config(None, ["preset=tiny"]))
    module.log_dict = lambda *_, **__: None
    optimizer = torch.optim.AdamW(module.network.parameters(), 3e-3)
    losses = []
    for number, batch in enumerate(islice(Patches(dots, 32, seed=0), 40)):
        loss = module.training_step(batch, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_average_takes_the_running_statistics():
    module = LandmarkTraining(load_config(None, ["preset=tiny"]))
    module.network.features[1].running_mean.fill_(7.0)
    module.on_train_batch_end()
    assert (module.ema.features[1].running_mean == 7).all()
    assert isinstance(module.ema, LandmarkNet)


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"heldout.*is not a file"):
        landmark_data(tmp_path, tmp_path / "none.yaml")
    (tmp_path / "heldout.yaml").write_text("identities: []\n")
    with pytest.raises(UserError, match=r"no manifest\.json"):
        landmark_data(tmp_path, tmp_path / "heldout.yaml")
