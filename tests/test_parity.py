"""``benchmarks/parity.py`` through its real entry point."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ipfvr.core.errors import run_verb

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "parity"
VECTORS = SHARED / "venhancer_small.safetensors"

needs_vectors = pytest.mark.skipif(not VECTORS.is_file(), reason="../shared/parity is not beside this checkout")


@pytest.fixture
def parity(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("parity")


@needs_vectors
def test_the_originals_numbers_are_reached():
    """All cases of the real file, in a process of its own, as a user runs it."""
    command = [sys.executable, "benchmarks/parity.py", str(VECTORS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    tensors = [line.split()[0] for line in run.stdout.splitlines()[1:-1]]
    outputs = ("out", "control_first", "control_last", "sigmas")
    assert {name for name in load_file(VECTORS) if name.rpartition(".")[2] in outputs} <= set(tensors)
    assert run.stdout.splitlines()[-1] == "all within tolerance"


@needs_vectors
@pytest.mark.parametrize(
    ("name", "place"), [("schedule.sigmas", 500), ("forward.c.out", 0), ("forward.c.control_first", 7)]
)
def test_one_number_off_is_exit_status_1(tmp_path, parity, capsys, name, place):
    keep = "schedule" if name.startswith("schedule") else "forward.c"
    tensors = {k: v for k, v in load_file(VECTORS).items() if k.startswith(keep)}
    tensors[name].view(-1)[place] += 1e-3
    save_file(tensors, tmp_path / "off.safetensors")
    with pytest.raises(SystemExit) as stop:
        run_verb(parity.main, [str(tmp_path / "off.safetensors")])
    assert stop.value.code == 1
    above = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("ABOVE")]
    assert above == [name]


def bad_files(folder: Path) -> dict[str, Path]:
    """Files that cannot be used, by the words of their error."""
    (folder / "text.safetensors").write_text("not tensors")
    save_file({}, folder / "empty.safetensors")
    save_file({"resampler.in": torch.zeros(2)}, folder / "other.safetensors")
    save_file({"forward.a.x": torch.zeros(2)}, folder / "part.safetensors")
    parts = ("lq", "noise", "noise_hint", "y", "neg_y", "hint", "start", "out")
    save_file({f"sample.euler.{part}": torch.zeros(2) for part in parts}, folder / "case.safetensors")
    save_file({"schedule.sigmas": torch.zeros(10)}, folder / "short.safetensors")
    return {
        "no file": folder / "missing.safetensors",
        "not a safetensors file": folder / "text.safetensors",
        "no tensors": folder / "empty.safetensors",
        "unknown tensor 'resampler.in'": folder / "other.safetensors",
        "lacks its tensor 't'": folder / "part.safetensors",
        "unknown case sample.euler": folder / "case.safetensors",
        "do not fit": folder / "short.safetensors",
    }


def test_files_that_cannot_be_used_are_one_line_and_exit_status_2(tmp_path, parity, capsys):
    for words, path in bad_files(tmp_path).items():
        assert run_verb(parity.main, [str(path)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert words in lines[0]
        assert str(path) in lines[0]


@pytest.mark.skipif(not (SHARED / "venhancer_keys.json").is_file(), reason="../shared/parity is not there")
def test_the_small_network_is_the_vectors_network(parity):
    """Names and shapes that the weights' recipe is applied to are those of the key list."""
    with torch.device("meta"):
        denoiser = parity.build_denoiser(parity.SMALL)
    keys = json.loads((SHARED / "venhancer_keys.json").read_text())["small"]
    ours = {name: list(shape) for name, shape in parity.official_names(denoiser).values()}
    assert ours == {name: list(shape) for name, shape in keys.items()}


def test_a_number_that_is_none_does_not_pass(parity):
    assert not parity.Check("forward.a.out", float("nan"), 1.0).passed
    assert parity.relative_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])) == 0
