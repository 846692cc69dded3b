"""Training of a recogniser: pairs, margin, data, and the whole through the real entry point."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.data.recognition import Batches, LabelledFaces, RecognitionData, degrade_picture, read_labelled
from ipfvr.faces.align import arcface_template, face_template
from ipfvr.faces.recognise import load_recogniser
from ipfvr.fit import main
from ipfvr.metrics.verification import verification
from ipfvr.training.recogniser import margin_logits


def unit(*shape, seed=0):
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=-1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five people with three noisy pictures of a plain colour: two held out, one not sure."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("anna", "ben", "carl", "dora", "emil"):
        (root / name / "reference").mkdir(parents=True)
        colour = rng.integers(60, 200, 3)
        for i in range(3):
            picture = colour + rng.integers(-20, 20, (40, 40, 3))
            Image.fromarray(picture.astype(np.uint8)).save(root / name / "reference" / f"{i}.png")
    (root / "heldout.yaml").write_text("identities: [carl, dora]\n")
    (root / "weak.yaml").write_text("identities: [emil]\n")
    return root


def pairs(root: Path, output: Path, *more: str) -> list[str]:
    return [
        "preset=tiny",
        "train.module=recogniser",
        f"data.root={root}",
        f"data.heldout={root / 'heldout.yaml'}",
        f"data.exclude={root / 'weak.yaml'}",
        "data.batch_size=4",
        "recogniser.blocks=[1,1,1,1]",
        "recogniser.widths=[16,16,16,16]",
        "recogniser.embedding=16",
        f"train.output={output}",
        "train.wandb=disabled",
        "train.precision=fp32",
        "train.accelerator=cpu",
        "train.validation_batches=1",
        "train.validate_every=2",
        "train.log_every=1",
        *more,
    ]


def test_verification_is_what_it_says():
    embeddings, people = unit(40, 8), [f"p{i % 5}" for i in range(40)]
    scores = verification(embeddings, people)
    both = [(float(embeddings[i] @ embeddings[j]), people[i] == people[j]) for i in range(40) for j in range(i)]
    same, other = ([c for c, equal in both if equal is kind] for kind in (True, False))
    assert scores["auc"] == pytest.approx(np.mean([[(s > o) + 0.5 * (s == o) for o in other] for s in same]))
    assert (scores["same_pairs"], scores["different_pairs"]) == (len(same), len(other))
    for rate in (1e-2, 1e-3):
        allowed = [t for t in other if np.mean(np.array(other) > t) <= rate]
        assert scores[f"tpr@{rate:g}"] == np.mean(np.array(same) > min(allowed))


def test_verification_at_its_limits():
    corners = torch.eye(4).repeat_interleave(3, dim=0)
    scores = verification(corners, [*"aaabbbcccddd"])
    assert (scores["auc"], scores["tpr@0.001"], scores["same"], scores["different"]) == (1, 1, 1, 0)
    assert verification(torch.ones(4, 1), [*"aabb"])["auc"] == 0.5
    for people in ("aaaa", "abcd"):
        with pytest.raises(ValueError, match="pairs"):
            verification(torch.eye(4), [*people])


def test_margin_is_cosfaces():
    cosines, person = unit(3, 5), torch.tensor([1, 0, 4])
    loss = torch.nn.functional.cross_entropy(margin_logits(cosines, person, 0.3, 10), person)
    by_hand = []
    for row, right in zip(cosines, person, strict=True):
        exact = torch.exp(10 * (row[right] - 0.3))
        by_hand.append(-torch.log(exact / (exact + sum(torch.exp(10 * row[j]) for j in range(5) if j != right))))
    assert loss.item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-12)
    assert torch.equal(margin_logits(cosines, person, 0.0, 10), 10 * cosines)


def test_pictures_fall_on_the_recognition_template(tmp_path):
    picture = np.zeros((320, 320, 3), np.uint8)
    for x, y in face_template(320):
        cv2.circle(picture, (round(x), round(y)), 9, (255, 255, 255), -1)
    (tmp_path / "a" / "reference").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "a" / "reference" / "1.png")
    square = read_labelled([tmp_path / "a"]).squares[0, ..., 0]
    _, _, _, centres = cv2.connectedComponentsWithStats((square > 127).astype(np.uint8))
    # The two templates are not quite similar: a point may be some pixels off, their mean may not.
    wanted = arcface_template() + 16
    assert np.linalg.norm(centres[1:, None] - wanted, axis=-1).min(axis=0).max() < 3
    assert np.allclose(centres[1:].mean(axis=0), wanted.mean(axis=0), atol=0.3)


def test_batches_depend_on_seed_and_number_alone():
    squares = np.random.default_rng(1).integers(0, 256, (6, 144, 144, 3), dtype=np.uint8)
    faces = LabelledFaces(squares, [*"aabbcc"])
    unbroken, resumed = iter(Batches(faces, 3, 7)), iter(Batches(faces, 3, 7, start=1))
    first, second = next(unbroken), next(unbroken)
    assert torch.equal(second["pixels"], next(resumed)["pixels"])
    assert not torch.equal(first["pixels"], second["pixels"])
    assert first["pixels"].shape == (3, 3, 112, 112)
    assert first["pixels"].abs().max() <= 1
    assert degrade_picture(squares[0], np.random.default_rng(0)).shape == (112, 112, 3)


def test_people_held_out_or_unsure_are_left_out(root):
    data = RecognitionData(load_config(overrides=pairs(root, root)))
    data.setup()
    assert {p.name for p in data.people} == set(data.faces.people) == {"anna", "ben"}
    assert next(iter(data.val_dataloader()))["people"] == ["carl"] * 3 + ["dora"] * 3
    with pytest.raises(UserError, match=r"data\.exclude 'nowhere'"):
        RecognitionData(load_config(overrides=pairs(root, root, "data.exclude=nowhere")))


def test_weak_identities_come_from_the_manifests(tmp_path):
    file = Path(__file__).resolve().parents[1] / "experiments" / "mini" / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare", file)
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    (tmp_path / "images" / "set").mkdir(parents=True)
    (tmp_path / "manifest.json").write_text('{"entries": []}')
    facts = {"x": {"weak_identity": True}, "y": {"weak_identity": False}, "z": {}}
    (tmp_path / "images" / "set" / "manifest.json").write_text(json.dumps({"identities": facts}))
    prepare.write_weak(tmp_path, tmp_path / "weak.yaml")
    assert yaml.safe_load((tmp_path / "weak.yaml").read_text()) == {"identities": ["x"]}


def test_training_resumes_and_exports(root, tmp_path):
    experiment = tmp_path / "e.yaml"
    experiment.write_text("preset: tiny\n")
    output = tmp_path / "out"
    for steps in (2, 4):
        main(["--config", str(experiment), *pairs(root, output, f"optimizer.steps={steps}")])
    assert torch.load(output / "checkpoints" / "last.ckpt", weights_only=False)["global_step"] == 4
    recogniser = load_recogniser(str(output / "weights" / "recogniser.safetensors"))
    assert recogniser.embed(torch.zeros(1, 3, 112, 112)).shape == (1, 16)
    rows = list(csv.DictReader((output / "log" / "from_2" / "metrics.csv").open()))
    assert {"val/auc", "val/tpr@0.01", "val/tpr@0.001", "val/same", "val/different"} <= set(rows[-1])
    assert any(0 <= float(row["val/auc"] or -1) <= 1 for row in rows)
