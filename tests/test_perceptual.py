"""LPIPS and its like: what pyiqa is shown, and when there is no number."""

from __future__ import annotations

import json
import socket
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from test_evaluate import dim, pan, run, write_frames

from ipfvr.core.errors import UserError
from ipfvr.metrics.evaluation import CHEAP, KEYS, choose_metrics
from ipfvr.metrics.perceptual import KINDS, load_network
from ipfvr.weights import registry
from ipfvr.weights.catalogue import ENTRIES

CPU = torch.device("cpu")


def put_files(folder: Path, key: str) -> None:
    """Files of the registered names, whatever is in them."""
    target = folder / ENTRIES[KINDS[key].entry].folder
    target.mkdir(parents=True)
    for file in ENTRIES[KINDS[key].entry].files:
        (target / file.name).write_text(file.name)


@pytest.fixture
def pyiqa(bare: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in: looks for its files where pyiqa does, fetches what is not there, and scores by brightness."""
    monkeypatch.setenv(registry.VARIABLE, str(bare / "weights"))
    (bare / "weights").mkdir()
    module = types.ModuleType("pyiqa")
    module.__spec__ = types.SimpleNamespace()
    module.made = []

    def create_metric(name: str, device: torch.device):
        kind = next(kind for kind in KINDS.values() if kind.name == name)
        for place in kind.places:
            path = Path(torch.hub.get_dir()) / place
            if not path.is_file():
                socket.create_connection(("huggingface.co", 443), 1)
            assert path.read_text() == path.name
        module.made.append(name)
        print(f"Loading pretrained model {name}")
        if kind.by_target:
            return lambda x, y: (x - y).abs().mean((1, 2, 3))
        return lambda x: x.mean((1, 2, 3), keepdim=True)

    module.create_metric = create_metric
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    return module


def test_what_pyiqa_looks_for_is_what_the_registry_has() -> None:
    for kind in KINDS.values():
        assert {Path(place).name for place in kind.places} == {file.name for file in ENTRIES[kind.entry].files}


@pytest.mark.parametrize("key", sorted(KINDS))
def test_a_network_is_made_of_the_files_that_are_there(
    key: str,
    pyiqa: types.ModuleType,
    bare: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    hub, look_up = torch.hub.get_dir(), socket.getaddrinfo
    put_files(bare / "weights", key)
    network = load_network(key, CPU)
    assert pyiqa.made == [KINDS[key].name]
    assert {path.parent for path in network.weights.values()} == {bare / "weights" / ENTRIES[KINDS[key].entry].folder}
    assert (torch.hub.get_dir(), socket.getaddrinfo) == (hub, look_up)
    assert capsys.readouterr().out == ""


def test_a_file_that_is_not_there_is_named_and_nothing_is_fetched(
    pyiqa: types.ModuleType,
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=r"'musiq' are missing: put iqa/musiq/\{musiq_koniq_ckpt-e95806b9.pth\}"):
        load_network("musiq", CPU)
    put_files(bare / "weights", "musiq")
    # Another version of pyiqa may look for another file: it is told that there is no network.
    pyiqa.create_metric = lambda name, device: socket.create_connection(("huggingface.co", 443), 1)
    with pytest.raises(UserError, match=r"cannot make MUSIQ of .*: pyiqa tried to fetch a file from huggingface.co"):
        load_network("musiq", CPU)
    monkeypatch.delitem(sys.modules, "pyiqa")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"LPIPS is computed by pyiqa: pip install 'ipfvr\[iqa\]'; weights 'lpips'"):
        load_network("lpips", CPU)


def test_the_verb_prints_what_is_asked_for_and_why_it_is_not_there(
    pyiqa: types.ModuleType,
    bare: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    truth, result = pan(3), dim(pan(3))
    write_frames(bare / "gt", truth)
    write_frames(bare / "pred", result)
    for key in ("lpips", "clip_iqa", "liqe"):
        put_files(bare / "weights", key)
    arguments = ("--pred", bare / "pred", "--gt", bare / "gt", "--json", bare / "out.json")
    assert run(*arguments, "--metrics", "psnr", "lpips", "clip_iqa", "musiq", "liqe") == 3
    printed, content = capsys.readouterr().out, json.loads((bare / "out.json").read_text())
    row = content["clips"][0]
    assert list(row["scores"]) == ["psnr", "lpips", "clip_iqa", "musiq", "liqe"]
    gap = np.abs(truth.astype(float) - result).mean((1, 2, 3)) / 255
    assert row["per_frame"]["lpips"] == pytest.approx(gap, rel=1e-5)
    assert row["scores"]["clip_iqa"] == pytest.approx(result.mean() / 255, rel=1e-5)
    assert row["scores"]["musiq"] is row["scores"]["liqe"] is None
    assert "n/a MUSIQ: weights 'musiq' are missing" in printed
    assert "n/a LIQE: frames are smaller than the 224 pixels that LIQE needs" in printed
    assert "PolyForm-Noncommercial" in content["metrics"]["lpips"]["licence"]
    assert "LPIPS_v0.1_alex-df73285e.pth (sha256" in content["metrics"]["lpips"]["network"]
    assert "- lpips: prediction against ground truth" in printed
    assert "- ids:" not in printed
    assert run("--pred", bare / "pred", "--json", bare / "alone.json", "--metrics", "lpips") == 3
    alone = json.loads((bare / "alone.json").read_text())["clips"][0]
    assert alone["missing"] == {"lpips": "no ground truth is given"}


def test_metrics_are_chosen_by_key_by_family_or_all() -> None:
    assert choose_metrics(CHEAP) == CHEAP
    assert choose_metrics(["all"]) == KEYS
    assert choose_metrics(["e_warp", "ids", "psnr"]) == ("psnr", "ids_gt", "ids_ref", "e_warp_gt", "e_warp_own")
    with pytest.raises(UserError, match="no metric 'lpip'; the nearest is 'lpips'"):
        choose_metrics(["lpip"])
