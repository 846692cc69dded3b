"""The doctor finds what is made to be wrong, and nothing else."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ipfvr import doctor
from ipfvr.core.config import load_config
from ipfvr.weights import registry


def test_here_everything_that_mini_needs_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.main([])
    said = capsys.readouterr().out
    assert doctor.WRONG not in said
    assert said.strip().endswith("preset mini: ready")
    assert "mini/denoiser" in said


def test_what_full_lacks_is_named_with_the_line_that_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        doctor.main(["preset=full"])
    assert end.value.code == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(doctor.WRONG)]
    assert any("python -m ipfvr.weights fetch venhancer" in line and "GB" in line for line in lines)
    assert all("about" in line for line in lines)


def test_a_package_that_is_missing_or_too_old_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=99", "no-such-package>=1", "torch>=1", 'absent; extra == "some"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    wrong = {f.subject: f for f in doctor.packages() if f.state == doctor.WRONG}
    assert set(wrong) == {"numpy", "no-such-package"}
    assert ">=99 is needed" in wrong["numpy"].says
    assert wrong["no-such-package"].do == "pip install 'no-such-package>=1'"
    assert [r.name for r in doctor._requirements("some")] == ["absent"]
    assert doctor._trouble(Requirement("torch")) is None


def test_damaged_weights_a_missing_encoder_and_a_missing_gpu_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "denoiser.safetensors").write_bytes(b"half of a fi")
    monkeypatch.setattr(registry, "SHIPPED", tmp_path)
    wrong = {f.subject for f in doctor.weights(load_config(None, [])) if f.state == doctor.WRONG}
    assert {"mini/denoiser", "weights"} <= wrong
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = {f.subject: f for f in doctor.machine("cuda")}
    assert found["gpu"].state == doctor.WRONG
    assert {f.subject: f for f in doctor.machine("auto")}["gpu"].state == doctor.NOTE

    def codec(name: str, mode: str) -> None:
        import av

        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr("av.codec.Codec", codec)
    assert {f.subject: f for f in doctor.machine("auto")}["encoder"].state == doctor.WRONG


def test_a_finding_reads_as_one_line_and_what_to_do_below() -> None:
    assert str(doctor.Finding(doctor.OK, "disk", "5 GB")) == "ok    disk                5 GB"
    assert str(doctor.Finding(doctor.NOTE, "disk", "0 GB", "make room")).splitlines()[1].strip() == "-> make room"
