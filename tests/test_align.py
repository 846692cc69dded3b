"""Alignment: templates, similarities, crops and the differentiable warp."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from skimage.transform import SimilarityTransform

from ipfvr.faces.align import (
    apply,
    arcface_template,
    crop,
    crop_matrix,
    face_template,
    invert,
    similarity_transform,
    warp_faces,
)


def random_similarity(rng, reflect=False):
    angle, scale = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(-2, 2))
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.hstack([linear @ np.diag([-1.0, 1.0]) if reflect else linear, rng.uniform(-300, 300, (2, 1))])


def smooth_picture(height, width):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + c) * np.cos(y / 23 - c) + 0.5 * np.sin((x + y) / 31) for c in range(3)]
    return np.clip(127 + 70 * np.stack(waves, -1), 0, 255).astype(np.uint8)


def test_template_maps_to_itself():
    for size in (96, 128, 512):
        assert np.allclose(crop_matrix(face_template(size), size), np.eye(2, 3), atol=1e-12)
    assert np.allclose(face_template(256) * 2, face_template(512))


def test_random_similarity_is_recovered():
    rng = np.random.default_rng(0)
    for _ in range(50):
        matrix, points = random_similarity(rng), rng.uniform(0, 500, (5, 2))
        assert np.allclose(similarity_transform(points, apply(matrix, points)), matrix, atol=1e-9)


def test_similarity_is_umeyamas_on_noisy_points():
    rng = np.random.default_rng(1)
    for reflect in (False, True):  # for mirrored points Umeyama's best proper rotation, too
        src = rng.uniform(0, 100, (5, 2))
        dst = apply(random_similarity(rng, reflect), src) + rng.normal(0, 4, (5, 2))
        matrix = similarity_transform(src, dst)
        assert np.linalg.det(matrix[:, :2]) > 0
        if not reflect:
            assert np.allclose(matrix, SimilarityTransform.from_estimate(src, dst).params[:2], atol=1e-8)
        cost = np.sum((apply(matrix, src) - dst) ** 2)
        for _ in range(20):
            step = rng.normal(0, 1e-3, 4)
            other = matrix + np.array([[step[0], -step[1], step[2]], [step[1], step[0], step[3]]])
            assert np.sum((apply(other, src) - dst) ** 2) > cost


@pytest.mark.parametrize("bad", [np.ones((5, 2)), np.full((5, 2), np.nan), np.zeros((1, 2)), np.zeros((5, 3))])
def test_points_that_determine_nothing(bad):
    with pytest.raises(ValueError, match=r"points|finite"):
        similarity_transform(bad, np.arange(10).reshape(5, 2) if bad.shape == (5, 2) else bad)


def test_inverse_is_exact():
    rng = np.random.default_rng(2)
    for _ in range(20):
        matrix, points = random_similarity(rng), rng.uniform(0, 2000, (9, 2))
        assert np.allclose(invert(invert(matrix)), matrix, rtol=1e-12, atol=1e-9)
        assert np.allclose(apply(invert(matrix), apply(matrix, points)), points, atol=1e-8)


def test_identity_crop_is_the_picture():
    picture = smooth_picture(64, 64)
    assert np.array_equal(crop(picture, np.eye(2, 3), 64), picture)


def test_crop_and_back_gives_the_interior():
    picture = smooth_picture(300, 400)
    angle = 0.3
    linear = 1.2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.hstack([linear, (128 - linear @ (200, 150))[:, None]])
    square = crop(picture, matrix, 256)
    back = cv2.warpAffine(square, invert(matrix), (400, 300), flags=cv2.INTER_CUBIC)
    inside = cv2.warpAffine(np.ones((256, 256), np.uint8), invert(matrix), (400, 300))
    inside = cv2.erode(inside, np.ones((9, 9))) == 1
    assert inside.sum() > 20_000
    assert np.abs(back[inside].astype(int) - picture[inside]).max() <= 3


def test_shrinking_does_not_alias():
    # One-pixel stripes: a grey without pattern is right, sampling without antialiasing shows beats. The average over
    # a pixel of the crop lets a share of at most 1 / (pi 1.7) of this frequency through.
    stripes = np.tile(np.array([0, 255], np.uint8), (512, 256))[..., None].repeat(3, -1)
    matrix = np.array([[0.29, 0.01, 3.0], [-0.01, 0.29, 5.0]])
    plain = cv2.warpAffine(stripes, matrix, (128, 128), flags=cv2.INTER_CUBIC)
    assert crop(stripes, matrix, 128)[10:-10, 10:-10].std() < 0.22 * plain[10:-10, 10:-10].std()


def test_shrunken_crop_lies_where_the_landmarks_say():
    picture = np.zeros((400, 400, 3), np.uint8)
    cv2.circle(picture, (230, 170), 12, (255, 255, 255), -1)
    matrix = np.array([[0.21, 0.03, 4.0], [-0.03, 0.21, 10.0]])
    square = crop(picture, matrix, 64)[..., 0].astype(float)
    y, x = np.mgrid[:64, :64]
    centre = np.array([(square * x).sum(), (square * y).sum()]) / square.sum()
    assert np.allclose(centre, apply(matrix, np.array([230.0, 170.0])), atol=0.02)


def test_outside_the_frame_is_mirrored():
    picture = smooth_picture(64, 64)
    square = crop(picture, np.array([[1.0, 0, 10], [0, 1, 0]]), 64)
    assert np.array_equal(square[:, 9], picture[:, 1])


def test_warp_faces_is_warp_affine():
    picture = smooth_picture(140, 120)
    points = apply(invert(np.array([[1.1, 0.1, -8], [-0.1, 1.1, 3]])), arcface_template())
    frames = torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 127.5 - 1
    ours = warp_faces(frames, points[None])[0].permute(1, 2, 0).numpy()
    matrix = similarity_transform(points, arcface_template())
    theirs = cv2.warpAffine(
        frames[0].permute(1, 2, 0).numpy(), matrix, (112, 112), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    assert np.abs(ours - theirs).max() < 0.01


def test_warp_faces_shrinks_like_crop():
    picture = smooth_picture(600, 600)
    points = arcface_template() * 5.1 + 7
    frames = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    ours = warp_faces(frames, points[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - crop(picture, similarity_transform(points, arcface_template()), 112)).max() < 1.5


def test_warp_faces_gradient():
    # The warp is linear in the frames: a finite difference is exact whatever its step.
    generator = torch.Generator().manual_seed(0)
    frames, direction = torch.randn(2, 2, 3, 17, 16, dtype=torch.float64, generator=generator)
    points = np.stack([face_template(16), face_template(16) * 0.8 + 1])
    frames.requires_grad_()
    warped = warp_faces(frames, points, size=9)
    weights = torch.randn(warped.shape, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad((warped * weights).sum(), frames)
    difference = warp_faces(frames + direction, points, size=9) - warped
    assert gradient.abs().sum() > 0
    assert (gradient * direction).sum().item() == pytest.approx((difference * weights).sum().item(), rel=1e-9)


def test_warp_faces_refuses_other_shapes():
    with pytest.raises(ValueError, match="landmarks"):
        warp_faces(torch.zeros(2, 3, 8, 8), np.zeros((1, 5, 2)))
