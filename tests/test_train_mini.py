"""The chain of mini's trainings: what each stage is given, what is not done twice, its curves."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import cv2
import pytest

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError

# Not by sys.path: beside it lies a dlib.py, which would hide the package.
_SPEC = importlib.util.spec_from_file_location("train", Path(__file__).parents[1] / "experiments/mini/train.py")
train = importlib.util.module_from_spec(_SPEC)
sys.modules["train"] = train
_SPEC.loader.exec_module(train)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands; a training leaves the file that it makes and a log."""
    commands: list[list[str]] = []
    by_config = {(train.HERE / stage.config): stage for stage in train.STAGES}

    def run(command: list[str]) -> None:
        commands.append(command)
        if "ipfvr.fit" in command:
            stage = by_config[Path(command[4])]
            folder = tmp_path / "out" / stage.name
            (folder / "weights").mkdir(parents=True, exist_ok=True)
            for name, _ in stage.makes:
                (folder / "weights" / name).write_bytes(stage.name.encode())
            log = folder / "log" / "from_0" / "metrics.csv"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("step,loss,val/loss,val/psnr\n1,9,,\n2,,4.0,20\n4,,2.0,25\n")

    monkeypatch.setattr(train, "run", run)
    monkeypatch.setattr(train, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped" / "mini").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    return commands


def arguments(tmp_path: Path, *more: str) -> list[str]:
    """Of the script."""
    return ["--root", str(tmp_path / "data"), "--output", str(tmp_path / "out"), *more]


def test_each_stage_stands_on_those_before(said: list[list[str]], tmp_path: Path) -> None:
    train.main(arguments(tmp_path, "--ship", "optimizer.steps=2"))
    fitted = [command for command in said if "ipfvr.fit" in command]
    assert len(fitted) == len(train.STAGES)
    given = {stage.name: command[5:] for stage, command in zip(train.STAGES, fitted, strict=True)}
    for command in fitted:
        load_config(command[4], command[5:])  # every option exists
    out = tmp_path / "out"
    assert f"weights.vae={out / 'vae' / 'weights' / 'vae.safetensors'}" in given["base"]
    assert f"weights.text={out / 'clip' / 'weights' / 'text.safetensors'}" in given["base"]
    assert f"weights.tokenizer={out / 'clip' / 'tokenizer'}" in given["joint"]
    assert f"weights.denoiser={out / 'base' / 'weights' / 'denoiser.safetensors'}" in given["base_clips"]
    assert f"weights.vae={out / 'codec' / 'weights' / 'vae.safetensors'}" in given["joint"]
    assert f"weights.denoiser={out / 'joint' / 'start.safetensors'}" in given["joint"]
    (widened,) = [command for command in said if command[1].endswith("widen.py")]
    assert widened[widened.index("--start") + 1] == f"{out / 'base_clips'}/weights/denoiser.safetensors"
    assert not any(pair.startswith("weights.") for pair in given["landmarks"])
    shipped = {path.name: path.read_bytes() for path in (tmp_path / "shipped" / "mini").iterdir() if path.is_file()}
    assert shipped["denoiser.safetensors"] == shipped["adapter.safetensors"] == b"joint"
    assert shipped["vae.safetensors"] == b"codec"
    assert (tmp_path / "shipped" / "mini" / "tokenizer" / "vocab.json").is_file()
    assert cv2.imread(str(out / "joint" / "curves.png")) is not None


def test_what_is_finished_is_not_trained_again(said: list[list[str]], tmp_path: Path) -> None:
    train.main(arguments(tmp_path))
    (tmp_path / "out" / "joint" / "start.safetensors").touch()  # which the widening would have left
    count = len(said)
    train.main(arguments(tmp_path))
    assert len(said) == count
    train.main(arguments(tmp_path, "--only", "joint", "optimizer.steps=3"))
    assert len(said) == count + 1
    assert any("codec" in pair for pair in said[-1])


def test_without_data_the_line_says_what_to_give(said: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "data").rmdir()
    with pytest.raises(UserError, match="give --source"):
        train.main(arguments(tmp_path))
    train.main(arguments(tmp_path, "--source", str(tmp_path), "--only", "vae"))
    assert said[0][1].endswith("prepare.py")


def test_a_training_that_fails_ends_the_chain(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exit code 3"):
        train.run([sys.executable, "-c", "raise SystemExit(3)"])
    assert train.draw_curves(tmp_path, "none") is None
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="no stage denoiser: there are landmarks"):
        train.main(arguments(tmp_path, "--only", "joint,denoiser"))
