"""Film faults, the same face at another moment, and which pictures are a truth to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import ScheduleConfig
from ipfvr.data.faces import Draw, FaceData, face_ellipse
from ipfvr.data.variation import displace, draw_displacement, move_face, vary
from ipfvr.degradation.faults import FAULTS, film_fault
from ipfvr.diffusion.schedule import Schedule
from ipfvr.faces.align import face_template
from ipfvr.training.base import latent_weight

SIZE = 64


def textured(frames: int = 2) -> np.ndarray:
    """Smooth colours with some detail, (frames, SIZE, SIZE, 3)."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    channels = [0.5 + 0.3 * np.sin(9 * x + 5 * y + c) + 0.1 * np.sin(60 * x * (c + 1)) for c in range(3)]
    return np.repeat((np.stack(channels, -1) * 255).clip(0, 255).astype(np.uint8)[None], frames, 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_repeats_by_its_seed_and_does_what_its_name_says(fault: str) -> None:
    sharp = textured()
    low, again = (film_fault(sharp, fault, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(low, again)
    assert low.shape[0] == 2
    factor = SIZE // low.shape[1]
    assert factor == 1 if fault in ("clean", "blurred") else factor in range(1, 3 if fault != "small" else 7)
    assert np.array_equal(low, sharp) == (fault == "clean")
    assert fault != "small" or factor >= 3


def test_coloured_noise_leaves_luma_nearly_alone() -> None:
    grey = np.full((1, SIZE, SIZE, 3), 128, np.uint8)
    low = film_fault(grey, "chroma", np.random.default_rng(0)).astype(float)
    luma = low @ (0.299, 0.587, 0.114)
    assert luma.std() < 0.3 * (low[..., 0] - low[..., 2]).std()


def test_an_unknown_fault_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="compressed"):
        film_fault(textured(), "comprest", np.random.default_rng(0))


def test_no_displacement_changes_nothing_and_a_shift_shifts() -> None:
    frame = textured(1)[0]
    assert np.array_equal(displace(frame, np.zeros((SIZE, SIZE, 2), np.float32)), frame)
    shift = np.zeros((SIZE, SIZE, 2), np.float32)
    shift[..., 0] = 3
    assert np.array_equal(displace(frame, shift)[:, :-3], frame[:, 3:])


def test_displacements_have_the_spread_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([draw_displacement(SIZE, 0.02, rng) for _ in range(200)])
    assert 0.6 < fields.std() / (0.02 * SIZE) < 1.2  # between the knots the cubic is a little smaller


def test_varied_pictures_differ_from_each_other_but_keep_shape_and_type() -> None:
    pictures = textured(2)
    varied = vary(pictures, 0.02, np.random.default_rng(0))
    assert varied.shape == pictures.shape
    assert varied.dtype == np.uint8
    assert not np.array_equal(varied[0], varied[1])


def test_a_moving_face_moves_a_little_from_frame_to_frame() -> None:
    still = textured(8)
    moved = move_face(still, 0.01, np.random.default_rng(1)).astype(int)
    steps = np.abs(np.diff(moved, axis=0)).mean((1, 2, 3))
    assert (steps > 0).all()
    assert steps.max() < np.abs(moved - still).mean() * 3 + 20


def test_the_ellipse_holds_the_template_and_leaves_the_corners_out() -> None:
    mask = face_ellipse(256)
    for x, y in face_template(256).round().astype(int):
        assert mask[y, x] == 1
    assert mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum() == 0


def test_small_pictures_are_references_only_and_face_only_people_weigh_by_their_faces(tmp_path: Path) -> None:
    for name, side in (("anna/reference/1.png", 32), ("anna/reference/2.png", 24), ("set_b/reference/1.png", 32)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (100, 120, 140)).save(tmp_path / name)
    overrides = ["data.min_side=32", "data.face_only=[set_]", "data.references=1"]
    data = FaceData(load_config(None, ["preset=tiny", f"data.root={tmp_path}", *overrides]))
    data.setup()
    assert [f"{f.parent.parent.name}/{f.stem}" for f in data.train.pictures.files] == ["anna/1", "set_b/1"]
    weights = [data.train[Draw(index, 0)]["weight"] for index in range(2)]
    assert weights[0].min() == 1
    assert 0.2 < weights[1].mean() < 0.6


def test_who_validates_can_be_chosen_among_those_held_out(tmp_path: Path) -> None:
    for name in ("anna", "ben", "carl", "dora"):
        for picture in range(1 if name == "dora" else 2):
            (tmp_path / name / "reference").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(tmp_path / name / "reference" / f"{picture}.png")
    (tmp_path / "held.yaml").write_text("identities: [ben, carl, dora]\n")
    (tmp_path / "validation.yaml").write_text("identities: [carl, dora]\n")
    lists = [f"data.heldout={tmp_path / 'held.yaml'}", f"data.validation={tmp_path / 'validation.yaml'}"]
    for references, wanted in ((0, {"carl", "dora"}), (1, {"carl"})):  # dora has no second picture
        config = load_config(None, ["preset=tiny", f"data.root={tmp_path}", f"data.references={references}", *lists])
        data = FaceData(config)
        data.setup()
        assert {f.parent.parent.name for f in data.validation.files} == wanted
        assert {f.parent.parent.name for f in data.train.pictures.files} == {"anna"}


def test_places_of_no_weight_do_not_count_in_the_loss() -> None:
    """Two constructions: the weighted loss, and Eq. 3 of the places that are left."""
    schedule, rng = Schedule(ScheduleConfig()), torch.Generator().manual_seed(0)
    z, noise, prediction = torch.randn(3, 2, 4, 1, 8, 8, generator=rng).unbind()
    pixels = torch.zeros(2, 1, 32, 32)
    pixels[..., :16] = 1
    weight = latent_weight({"weight": pixels}, z)
    found = schedule.loss(prediction, z, noise, 500, weight)
    assert torch.allclose(found, schedule.loss(prediction[..., :4], z[..., :4], noise[..., :4], 500))
    assert torch.allclose(
        schedule.loss(prediction, z, noise, 500, torch.ones(2, 1, 1, 8, 8)), schedule.loss(prediction, z, noise, 500)
    )
