"""The recogniser and the choice of a reference's face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from ipfvr.core.errors import UserError
from ipfvr.core.options import FacesConfig
from ipfvr.faces.align import face_template, warp_faces
from ipfvr.faces.detect import CenterFaceDetector, Face
from ipfvr.faces.mobilefacenet import MobileFaceNet
from ipfvr.faces.recognise import Recogniser, embed_faces, load_recogniser, reference_face
from ipfvr.weights import registry


def face(x, side=100.0):
    return Face(np.array([x, 10, side, side], np.float32), 0.9, (face_template(int(side)) + x).astype(np.float32))


class Finds:
    """A detector that finds what it is told."""

    name = "told"
    weights: dict = {}  # noqa: RUF012

    def __init__(self, *faces):
        self.faces = list(faces)

    def detect(self, image):
        return self.faces

    def follow(self, image, face):
        """Never certain."""


@pytest.fixture(scope="module")
def random_recogniser(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("recogniser") / "random.pt"
    torch.save(MobileFaceNet().state_dict(), path)
    return load_recogniser(str(path))


@pytest.fixture(scope="module")
def real():
    if registry.find(registry.ENTRIES["mobilefacenet"]) is None:
        pytest.skip("MobileFaceNet's file is not here")
    return load_recogniser("mobilefacenet")


def test_embeddings_are_of_length_one(random_recogniser):
    embeddings = random_recogniser.embed(torch.rand(2, 3, 112, 112) * 2 - 1)
    assert embeddings.shape == (2, 128)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=1e-5)


def test_recogniser_is_frozen_and_differentiable(random_recogniser):
    random_recogniser.train()
    assert not any(module.training for module in random_recogniser.modules())
    assert not any(p.requires_grad for p in random_recogniser.parameters())
    assert len(random_recogniser.sha256) == 64
    torch.manual_seed(1)
    recogniser = Recogniser(MobileFaceNet(), "", "", random_recogniser.path).double()
    frames = torch.rand(1, 3, 40, 40, dtype=torch.float64) * 2 - 1
    direction, target = torch.randn_like(frames), torch.randn(128, dtype=torch.float64)

    def likeness(x):
        return recogniser.embed(warp_faces(x, face_template(40)[None])) @ target

    x = frames.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(likeness(x).sum(), x)
    step = 1e-7  # small: the network has kinks
    difference = (likeness(frames + step * direction) - likeness(frames - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-4)


def test_embed_refuses_other_sizes(random_recogniser):
    with pytest.raises(ValueError, match="112"):
        random_recogniser.embed(torch.zeros(1, 3, 128, 128))


def test_embed_faces_leaves_out_frames_without_a_face(random_recogniser):
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    landmarks = np.stack([face_template(64)] * 3)
    landmarks[1] = np.nan
    embeddings = embed_faces(frames, landmarks, random_recogniser)
    assert embeddings[1].isnan().all()
    alone = embed_faces(frames[2:], landmarks[2:], random_recogniser)
    assert torch.allclose(embeddings[2], alone[0], atol=1e-5)
    nobody = embed_faces(frames[1:2], landmarks[1:2], random_recogniser)
    assert nobody.shape == alone.shape
    assert nobody.isnan().all()


def test_missing_or_wrong_file(tmp_path, monkeypatch):
    wrong = tmp_path / "wrong.pt"
    torch.save({"a": torch.zeros(1)}, wrong)
    with pytest.raises(UserError, match="MobileFaceNet"):
        load_recogniser(str(wrong))
    monkeypatch.setattr(registry, "search_folders", lambda package="": [])
    with pytest.raises(UserError, match=r"mobilefacenet\.pt"):
        load_recogniser("mobilefacenet")


def test_parity_with_onnx(real):
    onnxruntime = pytest.importorskip("onnxruntime")
    if registry.find(registry.ENTRIES["mobilefacenet-onnx"]) is None:
        pytest.skip("the ONNX file is not here")
    session = onnxruntime.InferenceSession(str(registry.locate("mobilefacenet-onnx")))
    name = session.get_inputs()[0].name
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = torch.randn(1, 3, 112, 112, generator=generator)
        theirs = torch.from_numpy(session.run(None, {name: x.numpy()})[0])
        assert torch.cosine_similarity(real.net(x), theirs).item() > 1 - 1e-5


def test_same_face_is_nearer_than_another_picture(real):
    portrait = skimage.data.astronaut()
    found = CenterFaceDetector(FacesConfig()).detect(portrait)[0]
    dim = (portrait * 0.6).astype(np.uint8)
    frames, landmarks = np.stack([portrait, dim, portrait[::-1]]), np.stack([found.landmarks] * 3)
    a, b, c = embed_faces(frames, landmarks, real)
    assert a @ b > 0.8 > a @ c
    assert (real.name, real.licence) == ("mobilefacenet", "Apache-2.0")


def test_reference_with_one_face():
    only, bystander = face(50), face(200, 30)
    image = np.zeros((300, 300, 3), np.uint8)
    assert reference_face(image, Finds(only, bystander)) is only
    assert reference_face(image, Finds(only), choose=1) is only


def test_reference_with_several_says_how_to_choose():
    left, right = face(10, 90), face(300, 120)
    image = np.zeros((400, 500, 3), np.uint8)
    with pytest.raises(UserError, match=r"a\.jpg shows 2 faces.*1: 90 x 90.*2: 120 x 120.*--face N"):
        reference_face(image, Finds(right, left), None, Path("a.jpg"))
    assert reference_face(image, Finds(right, left), choose=1) is left
    assert reference_face(image, Finds(right, left), choose=2) is right
    with pytest.raises(UserError, match="face 1 to 2"):
        reference_face(image, Finds(right, left), choose=3)


def test_reference_without_a_face():
    with pytest.raises(UserError, match=r"no face found in the reference b\.png"):
        reference_face(np.zeros((40, 40, 3), np.uint8), Finds(), None, "b.png")
