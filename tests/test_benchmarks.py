"""The studies on people held out, through their entry points: what is kept, left out, compared and written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from people import BLUE, RED, texture
from safetensors.torch import save_file
from stubs import lively

from ipfvr.config import load_config
from ipfvr.errors import UserError
from ipfvr.models.adapter import adapter_modules
from ipfvr.models.backbone import make_denoiser, make_image_prompt
from ipfvr.video.writer import VideoWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import cells
import guidance
import long_video

FRAMES = 10  # two windows and a border with tiny's clips of six frames
COMMON = ["preset=tiny", "device=cpu", "weights.recogniser=mini/recogniser"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people: a with two clips, one short, and a picture; b with a clip and a frame of it."""
    folder = tmp_path_factory.mktemp("root")
    for name, count, colour in (("a_c01", 12, RED), ("a_c02", 8, RED), ("b_c01", 60, BLUE)):
        path = folder / name[0] / "train" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path, 40, 40, 25) as writer:
            for frame in texture(count, 40, colour, len(name)):
                writer.write(frame)
    for name, colour in (("a_photo01", RED), ("a_c01_f0003", RED), ("b_c01_f0040", BLUE)):
        path = folder / name[0] / "reference" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), texture(1, 40, colour, 7)[0][..., ::-1])
    return folder


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The studies' restorers see what they are shown."""
    for module in (long_video, guidance):
        monkeypatch.setattr(module, "Restorer", lively(module.Restorer))


def test_short_clips_are_left_out_and_said(root: Path, capsys: pytest.CaptureFixture) -> None:
    found = cells.find_clips(root, FRAMES, ["a", "b"])
    assert [clip.name for clip in found] == ["a_c01", "b_c01"]
    assert "left out, shorter than 10 frames: a_c02 (8)" in capsys.readouterr().out
    assert found[1].seed == cells.find_clips(root, FRAMES, ["b"], ["b_c01"])[0].seed
    assert found[0].frames(FRAMES, 32).shape == (FRAMES, 32, 32, 3)
    for arguments, says in (
        ((["c"],), "no c in"),
        ((["a"], ["b_c01"]), "has a clip b_c01"),
        ((["a"], ["a_c02"]), "lower --frames"),
        ((), "no people in"),
    ):
        with pytest.raises(UserError, match=says):
            cells.find_clips(root, FRAMES, *arguments)


def test_a_reference_shows_nothing_of_what_is_scored(root: Path) -> None:
    a, b = cells.find_clips(root, FRAMES, ["a", "b"])
    picture = cv2.imread(str(root / "a" / "reference" / "a_photo01.png"))[..., ::-1]
    assert np.array_equal(cells.references(a, FRAMES, 40), picture[None])
    # b has but a frame of the clip itself, number 40.
    assert len(cells.references(b, 40 - cells.MARGIN, 40)) == 1
    assert len(cells.references(b, 41 - cells.MARGIN, 40)) == 0


def test_differences_are_paired_and_an_absent_number_does_not_count() -> None:
    arms = {"one": [{"x": 1.0}, {"x": 3.0}, {"x": None}], "two": [{"x": 1.5}, {"x": 3.5}, {"x": 9.0}]}
    lines = cells.comparison(arms, {"x": ("X", 2)}, "one").splitlines()
    assert lines[2] == "| one | 2.00 [1.00, 3.00] |"
    assert lines[3].startswith("| two | 4.67 [1.50, ")
    assert lines[4] == "| two minus one | +0.50 [+0.50, +0.50] |"


def test_long_video_goes_on_where_it_stopped(
    root: Path, tmp_path: Path, seeing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--root", str(root), "--output", str(tmp_path), "--identities", "a", "b", "--frames", str(FRAMES)]
    arguments += ["--flow", "dis", "--seeds", "0", *COMMON]
    done, real = [], long_video.cell

    def stopped(clip, *rest):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(clip.name)
        return real(clip, *rest)

    monkeypatch.setattr(long_video, "cell", stopped)
    with pytest.raises(KeyboardInterrupt):
        long_video.main(arguments)
    first = json.loads((tmp_path / "scores.json").read_text())["cells"]
    assert done == ["a_c01"] * 5 + ["b_c01"] * 2
    assert "1 clip of 10 frames (a_c01)" in (tmp_path / "table.md").read_text()
    monkeypatch.setattr(long_video, "cell", lambda clip, *rest: done.append(clip.name) or real(clip, *rest))
    long_video.main(arguments)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert len(done) == 10
    assert {key: content["cells"][key] for key in first} == first
    assert content["configuration"]["sampler"]["steps"] == 4
    # Every arm is another video.
    assert len({tuple(content["cells"][f"a_c01 | 0 | {arm}"]["ids"]) for arm in long_video.ARMS}) == 5
    row = content["cells"]["a_c01 | 0 | NS"]
    changes = 100 * np.abs(np.diff(row["ids"]))
    assert row["border_jump"] == pytest.approx(changes[5], abs=1e-6)  # tiny keeps frames 0-5 of its first window
    assert row["drift"] == pytest.approx(100 * (np.mean(row["ids"][:3]) - np.mean(row["ids"][-3:])), abs=1e-6)
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {arm} | " in table for arm in long_video.ARMS)
    assert table.count(" minus NS |") == 4
    assert "E_warp_gt by DIS (OpenCV)" in table
    assert cv2.imread(str(tmp_path / "frames.png")) is not None
    with pytest.raises(UserError, match="other settings"):
        long_video.main([*arguments, "sampler.steps=3"])
    with pytest.raises(UserError, match="no border"):
        long_video.main([*arguments, "--frames", "6"])


def test_guidance_compares_the_streams_and_their_weights(root: Path, tmp_path: Path, seeing: None) -> None:
    config = load_config(None, ["preset=tiny"])
    torch.manual_seed(0)
    denoiser = make_denoiser(config)
    prompt = make_image_prompt(config, denoiser)
    modules = adapter_modules(prompt, denoiser).state_dict()
    save_file({k: torch.randn(v.shape) if not v.any() else v for k, v in modules.items()}, tmp_path / "a.safetensors")
    arguments = ["--root", str(root), "--output", str(tmp_path), "--identities", "a", "--frames", "6"]
    arguments += ["--clips", "a_c01", "--weights", "1", "--flow", "dis", *COMMON]
    with pytest.raises(UserError, match=r"weights\.adapter is empty"):
        guidance.main(arguments)
    guidance.main([*arguments, f"weights.adapter={tmp_path / 'a.safetensors'}"])
    found = json.loads((tmp_path / "scores.json").read_text())["cells"]
    pairs = [(w_nt, w_nv) for w_nt in (0, 0.5, 1) for w_nv in (0, 0.5, 1)]
    assert list(found) == [f"a_c01 | 0 | {guidance.arm(*pair)}" for pair in pairs]
    assert len({cell["ids_gt"] for cell in found.values()}) == 9
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {row} | " in table for row in ("none", "text", "visual", "both"))
    assert f"| text | {found['a_c01 | 0 | w_nt 0.5, w_nv 0']['ids_gt']:.4f} |" in table
    assert "| both minus none | " in table
    assert cv2.imread(str(tmp_path / "grid.png")) is not None
