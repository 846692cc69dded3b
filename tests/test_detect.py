"""The detector that is shipped: what it finds does not depend on how the picture lies, and it makes nothing up."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from ipfvr.core.errors import UserError
from ipfvr.core.options import FacesConfig
from ipfvr.faces.centerface import (
    MULTIPLE,
    STRIDE,
    CenterFaceNet,
    decode,
    detect_faces,
    load_centerface,
    save_centerface,
)
from ipfvr.faces.detect import CenterFaceDetector
from ipfvr.weights.registry import locate

EYES = 44  # pixels between the astronaut's


@pytest.fixture(scope="module")
def shipped() -> CenterFaceDetector:
    return CenterFaceDetector(FacesConfig())


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def points(shipped: CenterFaceDetector, astronaut: np.ndarray) -> np.ndarray:
    return shipped.detect(astronaut)[0].landmarks


def moved(angle: float, zoom: float, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A similarity about the middle of the astronaut's face, to the middle of 512 x 512 pixels and beside it."""
    matrix = cv2.getRotationMatrix2D((224, 124), angle, zoom)
    matrix[:, 2] += np.array([256 - 224, 256 - 124]) + shift
    return matrix


@pytest.mark.parametrize("zoom", [0.4, 0.6, 1, 2.5])
@pytest.mark.parametrize("angle", [-40, -20, 0, 20, 40])
def test_a_face_is_found_turned_and_of_any_size(shipped, astronaut, points, angle: float, zoom: float) -> None:
    matrix = moved(angle, zoom, (13, -9))
    found = shipped.detect(cv2.warpAffine(astronaut, matrix, (512, 512), flags=cv2.INTER_AREA))
    assert len(found) == 1
    there = points @ matrix[:, :2].T + matrix[:, 2]
    assert np.linalg.norm(found[0].landmarks - there, axis=1).mean() < 0.12 * EYES * zoom
    centre = found[0].box[:2] + found[0].box[2:] / 2
    assert np.linalg.norm(centre - there.mean(axis=0)) < 0.4 * EYES * zoom


@pytest.mark.parametrize("size", [(64, 64), (96, 70), (33, 640), (513, 301), (1080, 1920)])
def test_noise_and_patterns_are_no_faces(shipped, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    clouds = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    stripes = np.broadcast_to((np.arange(size[1]) % 16 < 8).astype(np.uint8)[None, :, None] * 255, (*size, 3))
    for image in (noise, clouds, np.ascontiguousarray(stripes)):
        assert shipped.detect(image) == []


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_sides_of_any_length_are_looked_at(astronaut, cut: int) -> None:
    """Black pixels at the right and below, up to the multiple that the network takes, are what it adds itself."""
    net = load_centerface(locate("mini/centerface"))
    image = astronaut[: 256 - cut, : 320 - cut]
    padded = cv2.copyMakeBorder(image, 0, cut, 0, cut, cv2.BORDER_CONSTANT)
    assert not any(side % MULTIPLE for side in padded.shape[:2])
    assert np.allclose(detect_faces(net, image, 0.5), detect_faces(net, padded, 0.5), atol=1e-3)


def test_an_answer_says_where_the_face_is() -> None:
    """One cell of an answer, made of a box and points, is that box and those points."""
    box, marks = np.array([30.0, 14.0, 21.0, 28.0]), np.random.default_rng(0).uniform(30, 45, (5, 2))
    centre = (box[:2] + box[2:] / 2 + 0.5) / STRIDE - 0.5
    column, row = np.floor(centre).astype(int)
    answer = [torch.zeros(1, channels, 16, 24) for channels in (1, 2, 2, 10)]
    answer[0][0, 0, row, column] = 0.75
    answer[1][0, :, row, column] = torch.from_numpy(np.log(box[[3, 2]] / STRIDE))
    answer[2][0, :, row, column] = torch.from_numpy((centre - (column, row))[::-1].copy())
    answer[3][0, :, row, column] = torch.from_numpy(((marks - box[:2]) / box[2:])[:, ::-1].reshape(-1).copy())
    (found,) = decode(tuple(answer), 0.5)
    assert np.allclose(found, [*box, *marks.reshape(-1), 0.75], atol=1e-4)
    assert decode(tuple(answer), 0.8).shape == (0, 15)


def test_weights_are_kept_and_others_refused(tmp_path) -> None:
    torch.manual_seed(0)
    net, path = CenterFaceNet(), tmp_path / "net.safetensors"
    save_centerface(net, path, {})
    again = load_centerface(path)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    with pytest.raises(UserError, match="does not hold CenterFace"):
        load_centerface(locate("mini/landmarks"))
    with pytest.raises(UserError, match="does not hold CenterFace"):
        load_centerface(tmp_path / "none.safetensors")
