"""The benchmark of the full preset, with narrow networks: every phase runs on files in the official formats."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from ipfvr.core.errors import run_verb

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import full_size


def test_every_phase_of_the_full_preset_runs_at_small_size(tmp_path: Path) -> None:
    given = ["--size", "small", "--repeats", "1", "--lora-steps", "1", "--output", str(tmp_path)]
    full_size.main([*given, "device=cpu", "sampler.steps=2", "video.clip_frames=4", "video.overlap=2"])
    found = {p["name"]: p for p in json.loads((tmp_path / "results.json").read_text())["phases"]}
    assert len(found) == 16
    assert all(p["seconds"] > 0 for p in found.values())
    counts = [found[f"guided step, {n} streams"]["operations"] for n in (1, 2, 3)]
    network = found["network, 16 columns"]["operations"]
    assert counts[0] == network == found["controlnet"]["operations"] + found["unet, words and picture"]["operations"]
    assert network < counts[1] < 2 * network  # the ControlNet is run once for one text
    assert counts[1] < counts[2] < 3 * network
    assert found["lora step, with the reward"]["operations"] > found["lora step, no reward"]["operations"]
    text = (tmp_path / "table.md").read_text()
    assert "16 columns over 32 columns" in text
    assert all(f"| {name} |" in text for name in found)


def test_the_counter_counts_what_is_known() -> None:
    with full_size.Counter() as counter:
        torch.randn(3, 4) @ torch.randn(4, 5)
    assert counter.operations == 2 * 3 * 4 * 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_full_without_a_gpu_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(full_size.main, ["--size", "full"]) == 2
    assert "--size small" in capsys.readouterr().err
