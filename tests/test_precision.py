"""The type in which the denoiser computes: where each is chosen, and what bf16 costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ipfvr.core import devices
from ipfvr.core.config import load_config
from ipfvr.core.devices import choose_dtype, multiplies_bf16
from ipfvr.data.paired import low_quality
from ipfvr.data.sample import sample_clip
from ipfvr.restoration.restorer import Restorer

TOLERANCE = 50.0  # dB between what fp32 and bf16 restore; measured on real faces: 60


@pytest.mark.parametrize(
    ("said", "able"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f amx_bf16 amx_tile\n", True),
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("processor: 0\nFeatures\t: fp asimd bf16\n", True),
        ("processor: 0\nmodel name\t: bf16\nflags\t\t: fpu avx2 avx512f\n", False),
        ("", False),
    ],
)
def test_auto_is_bf16_where_the_processor_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, able: bool
) -> None:
    """A processor without such instructions is a hundred times slower in bf16: it must never be given it unasked."""
    (tmp_path / "cpuinfo").write_text(said)
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    cpu = torch.device("cpu")
    assert multiplies_bf16(cpu) is able
    assert choose_dtype("auto", cpu) is (torch.bfloat16 if able else torch.float32)
    assert choose_dtype("fp32", cpu) is torch.float32


@pytest.mark.skipif(not multiplies_bf16(torch.device("cpu")), reason="this processor has no bf16 matrices")
def test_bf16_restores_what_fp32_does() -> None:
    """Mini's frames in both types are the same to a tenth of a grey level on average; the codec is in fp32 in both."""
    low, _ = low_quality(sample_clip(4, 256), "heavy", 4, 0, True)
    both = [Restorer(load_config(None, ["preset=mini", f"dtype={name}"])) for name in ("fp32", "bf16")]
    whole, half = (one.restore(low, one.conditions()).astype(float) for one in both)
    assert both[1].networks.dtype is torch.bfloat16
    assert all(p.dtype is torch.float32 for p in both[1].networks.codec.parameters())
    apart = np.square(whole - half).mean()
    assert 0 < apart < 255**2 / 10 ** (TOLERANCE / 10)
    assert np.abs(whole - half).mean() < 0.1
