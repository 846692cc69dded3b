"""One person's references and scenes: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from people import BLUE, RED, ColourRecogniser, StubDetector, make_person, texture, write_video
from PIL import Image

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.data.faces import Draw
from ipfvr.data.scenes import Person, Scene, SceneData, SceneDataset, load_person, load_scene, thumbnails, twin_share
from ipfvr.faces.align import face_template
from ipfvr.video.reader import read_frames


def configured(root: Path, *more: str) -> Config:
    return load_config(None, ["preset=tiny", f"data.root={root}", "data.identity=anna", *more])


def load(root: Path, *more: str, share: float = 1.0) -> Person:
    return load_person(configured(root, *more), ColourRecogniser(), StubDetector(share))


def test_fewer_than_four_scenes_work_and_are_remarked(tmp_path: Path) -> None:
    make_person(tmp_path, "anna", RED, train=2)
    person = load(tmp_path)
    assert [len(person.train), len(person.test), len(person.references)] == [2, 1, 1]
    assert person.remarks == [f"2 training scenes in {tmp_path / 'anna'}: the paper takes 4"]
    assert float(person.embedding(ColourRecogniser()).norm()) == pytest.approx(1)
    assert min(person.likeness.values()) > 0.9


def test_four_scenes_are_not_remarked(tmp_path: Path) -> None:
    make_person(tmp_path, "anna", RED, train=4, test=0)
    assert load(tmp_path).remarks == []


@pytest.mark.parametrize("gone", ["reference", "train"])
def test_an_incomplete_folder_is_named(tmp_path: Path, gone: str) -> None:
    folder = make_person(tmp_path, "anna", RED, train=1)
    for file in (folder / gone).iterdir():
        file.unlink()
    with pytest.raises(UserError, match=f"{folder / gone}"):
        load(tmp_path)


def test_an_unknown_person_is_named_with_those_there(tmp_path: Path) -> None:
    make_person(tmp_path, "ben", RED, train=1)
    with pytest.raises(UserError, match=r"'anna' is not a folder of .*; people there: ben"):
        load(tmp_path)


def test_a_scene_without_a_face_is_named_and_refused(tmp_path: Path) -> None:
    folder = make_person(tmp_path, "anna", RED, train=1)
    write_video(folder / "train" / "dark.mp4", np.zeros((9, 40, 40, 3), np.uint8))
    with pytest.raises(UserError, match=r"no face found in the scene .*dark\.mp4 by the stub detector"):
        load(tmp_path)


def test_a_scene_shorter_than_a_clip_is_named_with_what_it_has(tmp_path: Path) -> None:
    folder = make_person(tmp_path, "anna", RED, train=1)
    write_video(folder / "train" / "short.mp4", texture(4, 40, RED, 50))
    with pytest.raises(UserError, match=r"short\.mp4 shows the face for 4 frames in a row, a clip has 6"):
        load(tmp_path)


def test_scenes_of_another_person_are_named_and_refused_unless_forced(tmp_path: Path) -> None:
    folder = make_person(tmp_path, "anna", RED, train=4)
    write_video(folder / "train" / "other.mp4", texture(9, 40, BLUE, 60))
    with pytest.raises(
        UserError, match=r"another person .*by colour.*other\.mp4 \(mean cosine -.*data\.force=true"
    ) as e:
        load(tmp_path)
    assert "s0.mp4" not in str(e.value)
    person = load(tmp_path, "data.force=true")
    assert len(person.train) == 5
    assert ["other.mp4" in remark for remark in person.remarks] == [True]


def test_a_reference_of_another_person_is_remarked(tmp_path: Path) -> None:
    folder = make_person(tmp_path, "anna", RED, train=4)
    Image.fromarray(texture(1, 40, BLUE, 70)[0]).save(folder / "reference" / "b.png")
    person = load(tmp_path)
    assert ["b.png looks like another person" in remark for remark in person.remarks] == [True]


def test_the_same_file_in_training_and_test_is_refused(tmp_path: Path) -> None:
    folder = make_person(tmp_path, "anna", RED, train=2)
    (folder / "test" / "copy.mp4").write_bytes((folder / "train" / "s1.mp4").read_bytes())
    with pytest.raises(UserError, match=r"copy\.mp4 is the same file as .*s1\.mp4"):
        load(tmp_path)


def test_the_same_frames_encoded_anew_and_cut_are_refused(tmp_path: Path) -> None:
    folder = make_person(tmp_path, "anna", RED, train=2)
    frames = texture(9, 40, RED, 1)
    write_video(folder / "test" / "anew.mp4", frames[2:9], crf=23)
    with pytest.raises(UserError, match=r"100% of the frames of .*anew\.mp4 are also in .*s1\.mp4"):
        load(tmp_path)


def scene(frames: np.ndarray, runs: list[int] | None = None) -> Scene:
    count, side = frames.shape[:2]
    points = np.repeat(face_template(side)[None], count, 0)
    return Scene(Path("scene.mp4"), frames, points, np.array(runs or [0] * count), True, "")


def test_other_takes_of_one_person_have_no_twins() -> None:
    first, second = (thumbnails(texture(9, 40, RED, seed)) for seed in (0, 1))
    assert twin_share(first, second) == 0
    assert twin_share(first, first) == 1


def test_an_aligned_crop_is_taken_as_it_is_and_any_other_video_is_cropped(tmp_path: Path) -> None:
    config = configured(tmp_path)
    path = write_video(tmp_path / "a.mp4", texture(8, 64, RED, 0))
    aligned = load_scene(path, StubDetector(), config)
    assert aligned.aligned
    assert np.array_equal(aligned.frames, read_frames(path))
    cropped = load_scene(path, StubDetector(share=0.6), config)
    assert not cropped.aligned
    assert cropped.frames.shape[1:3] == (40, 40)  # 1.25 times the 32 of the preset
    assert np.allclose(cropped.landmarks, face_template(40), atol=1e-4)


def test_scene_frames_bounds_what_is_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", texture(12, 40, RED, 0))
    assert len(load_scene(path, StubDetector(), configured(tmp_path, "data.scene_frames=7")).frames) == 7


def test_windows_never_cross_a_cut() -> None:
    cut = scene(texture(9, 40, RED, 0), runs=[0, 0, 0, 0, 1, 1, 1, 2, 2])
    assert cut.starts(3).tolist() == [0, 1, 4]
    assert cut.starts(5).tolist() == []


@pytest.mark.parametrize("flip", ["true", "false"])
def test_landmarks_follow_zoom_turn_and_mirror(flip: str) -> None:
    """A dot on the image-left eye is found where the item's landmark of that name is."""
    config = load_config(None, ["preset=tiny", "data.zoom=0.1", f"data.flip={flip}", "video.size=64"])
    side = 80
    points = face_template(side)
    frames = np.full((6, side, side, 3), 60, np.uint8)
    # Both eyes get the dot: a mirror exchanges them.
    for x, y in points[:2].round().astype(int):
        frames[:, y - 2 : y + 3, x - 2 : x + 3] = 255
    dataset = SceneDataset([scene(frames)], "anna", config)
    for seed in range(8):
        item = dataset[Draw(0, seed)]
        assert item["landmarks"].shape == (6, 5, 2)
        picture, marks = item["pixels"][0].mean(0), item["landmarks"][0]
        for x, y in marks[:2].round().int().tolist():
            assert picture[y, x] > 0.5
        assert marks[0, 0] < marks[1, 0], "the image-left eye is on the left, in a mirror too"


def test_an_item_has_the_sizes_of_the_preset_and_repeats(tmp_path: Path) -> None:
    make_person(tmp_path, "anna", RED, train=2)
    config = configured(tmp_path)
    data = SceneData(config, load(tmp_path))
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["pixels"].shape == (1, 6, 3, 32, 32)
    assert batch["low"].shape == (1, 6, 3, 32, 32)
    assert batch["landmarks"].shape == (1, 6, 5, 2)
    assert np.array_equal(batch["low"], next(iter(data.train_dataloader()))["low"])
