"""The chain of mini's trainings and the comparison of sizes: what each is given, what is not done twice, its curves."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError


# Not by sys.path: beside it lies a dlib.py, which would hide the package.
def script(name: str) -> ModuleType:
    """A script of ``experiments/mini``, as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"experiments/mini/{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train = script("train")
compare_sizes = script("compare_sizes")


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
    folders = {"--source": "source", "--root": "data", "--output": "out"}
    return [word for option, name in folders.items() for word in (option, str(tmp_path / name))] + list(more)


def test_each_stage_stands_on_those_before(said: list[list[str]], tmp_path: Path) -> None:
    train.main(arguments(tmp_path, "--ship", "optimizer.steps=2"))
    by_name = {stage.name: stage for stage in train.STAGES}
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
    # The landmarks are labelled in what the data are made of; so are the captions.
    roots = {
        name: Path(load_config(train.HERE / by_name[name].config, pairs).data.root).name
        for name, pairs in given.items()
    }
    assert roots == {name: "source" if name == "landmarks" else "data" for name in given}
    for stage in ("attributes", "clip", "base", "base_clips", "joint"):
        captions = load_config(train.HERE / by_name[stage].config, given[stage]).data.captions
        assert [Path(file).parts[-4:-1] for file in captions] == [
            ("source", "images", "celeba160"),
            ("source", "images", "celeba256"),
        ]
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


@pytest.mark.parametrize("length", [0.1, 1.0])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_stage_sees_the_share_of_pictures_that_is_wanted(
    device: str, length: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipfvr.core.devices.choose_device", lambda name: torch.device(device))
    for stage in train.STAGES:
        whole = load_config(train.HERE / stage.config)
        here = load_config(train.HERE / stage.config, train.paced(stage, length))
        for section, option in (("optimizer", "steps"), ("optimizer", "warmup"), ("train", "validate_every")):
            wanted = length * getattr(getattr(whole, section), option) * whole.data.batch_size
            seen = getattr(getattr(here, section), option) * here.data.batch_size
            assert -1e-3 < seen - wanted < here.data.batch_size, (stage.name, option)
        assert not here.train.minutes, "the length is a number of steps, the same on every machine"
        assert here.data.on_device == (whole.data.on_device and device == "cuda")
    assert not train.paced(train.STAGES[0], 1.0)


def test_curves_are_drawn_over_the_pictures_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[dict, float]] = []

    def line_plot(lines: dict, title: str, *labels: str, size: tuple[int, int], unit: float) -> np.ndarray:
        drawn.append((lines, unit))
        return np.zeros((size[1], size[0], 3), np.uint8)

    log = tmp_path / "log" / "from_0" / "metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("step,loss,val/identity_none,val/loss\n9,1,,\n99,,0.2,4\n199,,0.3,2\n")
    monkeypatch.setattr(train, "line_plot", line_plot)
    train.draw_curves(tmp_path, "joint", 16)
    assert drawn == [({"none": [None, 0.2, 0.3]}, 1600), ({"loss": [None, 1.0, 0.5]}, 1600)]


def test_without_data_the_line_says_what_to_give(said: list[list[str]], tmp_path: Path) -> None:
    root = ["--root", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match="landmarks: give --source"):
        train.main(root)
    (tmp_path / "data").rmdir()
    with pytest.raises(UserError, match="give --source"):
        train.main([*root, "--only", "vae"])
    with pytest.raises(UserError, match="give a share above 0"):
        train.main(arguments(tmp_path, "--length", "0"))
    train.main(arguments(tmp_path, "--only", "vae"))
    assert said[0][1].endswith("prepare.py")


def test_a_training_that_fails_ends_the_chain(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exit code 3"):
        train.run([sys.executable, "-c", "raise SystemExit(3)"])
    assert train.draw_curves(tmp_path, "none", 1) is None
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="no stage denoiser: there are landmarks"):
        train.main(arguments(tmp_path, "--only", "joint,denoiser"))


def test_sizes_train_for_as_long_and_are_scored_with_their_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    out = tmp_path / "out"

    def run(command: list[str]) -> None:
        commands.append(command)
        files = {"widen.py": "start.safetensors", "references.py": "scores.json"}
        folder = Path(next((c for c in command if str(out) in c), "").rpartition("=")[2])
        if (name := Path(command[1]).name) in files:
            file = Path(command[command.index("--output") + 1])
            file = file / files[name] if file.suffix == "" else file
            row = {"ids_gt": 0.3, "psnr": 20.0, "niqe": 8.0}
            clips = [{"none": row, "right": row | {"ids_gt": 0.4}}]
            file.write_text(json.dumps({"scores": {"pictures": {"a": clips, "b": clips}}}))
        elif name == "-m":
            load_config(command[4], command[5:])  # every option exists
            folder = Path(next(pair for pair in command if pair.startswith("train.output="))[13:])
            (folder / "weights").mkdir(parents=True)
            (folder / "weights" / "vae.safetensors").touch()
            (folder / "log" / "from_0").mkdir(parents=True)
            (folder / "log" / "from_0" / "metrics.csv").write_text("step,loss\n9,1\n")

    monkeypatch.setattr(compare_sizes, "run", run)
    words = ["--root", str(tmp_path), "--output", str(out), "--minutes", "2"]
    compare_sizes.main(words)
    trained = [command for command in commands if any(word.endswith("joint.yaml") for word in command)]
    sizes = OmegaConf.load(compare_sizes.HERE / "sizes.yaml").sizes
    assert len(trained) == len(sizes)
    assert all("train.minutes=2.0" in command for command in trained)
    assert sum(command[1].endswith("widen.py") for command in commands) == sum(s["widened"] for s in sizes.values())
    for command in (c for c in commands if c[1].endswith("references.py")):
        load_config(None, command[command.index("2") + 1 :])
    (row,) = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("| wide |")]
    assert "0.4000 | 0.4000 to 0.4000 | 0.1000" in row
    (row,) = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("| wide - scratch ")]
    assert "0.0000 | 0.0000 to 0.0000" in row
    unmeasured = {
        person: [{"none": {"psnr": 20.0, "ids_gt": 0.3, "niqe": None}, "right": {"ids_gt": 0.4}}] for person in "ab"
    }
    assert compare_sizes.cells(unmeasured)[-1] == compare_sizes.cells(unmeasured, unmeasured)[-1] == "not measured | "
    count = len(commands)
    compare_sizes.main(words)
    assert len(commands) == count
    with pytest.raises(UserError, match="no size huge: there are shipped"):
        compare_sizes.main([*words, "--only", "huge"])
