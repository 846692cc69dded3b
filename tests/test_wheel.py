"""The wheel holds all that restoring needs, and restores from where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ipfvr.video.reader import VideoReader

ROOT = Path(__file__).parents[1]
LARGEST = 60 << 20  # bytes: what may be shipped


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "ipfvr", source / "ipfvr", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        str(source),
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_every_file_of_the_package_is_in_it(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ipfvr").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked <= inside
    assert "ipfvr/presets/mini/denoiser.safetensors" in inside
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in inside)
    assert wheel.stat().st_size < LARGEST


def test_it_restores_from_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """Elsewhere than the checkout, with the dependencies that are here."""
    place = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(place),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    there = {**os.environ, "PYTHONPATH": str(place), "HF_HUB_OFFLINE": "1"}

    def run(*words: str) -> str:
        given = [sys.executable, "-m", *words]
        return subprocess.run(given, cwd=tmp_path, env=there, check=True, capture_output=True, text=True).stdout

    run("ipfvr.demo", "--output", "demo", "--frames", "4")
    assert VideoReader(tmp_path / "demo" / "restored.mp4").info.frames == 4
    report = json.loads((tmp_path / "demo" / "restored.json").read_text())
    assert all(str(place) in record["path"] for record in report["weights"].values())
    assert report["versions"]["commit"] == "not a checkout"
    assert "preset mini: ready" in run("ipfvr.doctor")
