"""The denoiser's files: every official key, round trips, files that do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.options import DenoiserConfig
from ipfvr.models.checkpoints import (
    load_denoiser,
    load_weights,
    official_names,
    own_weights,
    save_denoiser,
    to_official,
)
from ipfvr.models.unet import VideoDenoiser, build_denoiser

PARITY = Path(__file__).parents[2] / "shared" / "parity"
TINY = DenoiserConfig(
    width=4, multipliers=[1, 2], attention_levels=[0], head_dim=2, input_heads=3, text_width=6, norm_groups=2
)


def meta(config: DenoiserConfig = TINY) -> VideoDenoiser:
    with torch.device("meta"):
        return build_denoiser(config)


def random_official(dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """A random file of the tiny network under the official names."""
    g = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=g).to(dtype) for name, shape in official_names(meta()).values()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@pytest.mark.skipif(not PARITY.is_dir(), reason="the official checkpoint's keys (../shared/parity) are not here")
@pytest.mark.parametrize(
    ("size", "config"), [("full", DenoiserConfig()), ("small", DenoiserConfig(width=32, head_dim=16))]
)
def test_every_official_key_is_consumed(size: str, config: DenoiserConfig) -> None:
    keys = json.loads((PARITY / "venhancer_keys.json").read_text())[size]
    assert len(keys) == 2180
    denoiser = meta(config)
    weights = {name: torch.empty(shape, device="meta") for name, shape in keys.items()}
    load_weights(denoiser, weights)  # a key left over, missing or of another shape would be an error
    assert len(list(denoiser.parameters())) == 2180
    assert len(list(denoiser.buffers())) == 0
    assert {name: list(t.shape) for name, t in to_official(denoiser).items()} == keys


@pytest.mark.parametrize("layout", ["nested.pt", "plain.pt", "file.safetensors"])
def test_official_file_round_trip(layout: str, tmp_path: Path) -> None:
    weights, path = random_official(), tmp_path / layout
    if layout == "file.safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights, "step": 3} if layout == "nested.pt" else weights, path)
    denoiser = meta()
    load_denoiser(denoiser, path)
    assert same(to_official(denoiser), weights)


def test_own_file_round_trip(tmp_path: Path) -> None:
    denoiser, again = build_denoiser(TINY), build_denoiser(TINY)
    save_denoiser(denoiser, tmp_path / "ours.safetensors", {"step": "7"})
    load_denoiser(again, tmp_path / "ours.safetensors")
    assert same(dict(own_weights(again)), dict(own_weights(denoiser)))
    assert os.listdir(tmp_path) == ["ours.safetensors"]


def test_image_prompt_is_not_part_of_the_file(tmp_path: Path) -> None:
    denoiser = build_denoiser(TINY)
    denoiser.add_image_prompt(10)
    save_denoiser(denoiser, tmp_path / "ours.safetensors")
    plain = meta()
    load_denoiser(plain, tmp_path / "ours.safetensors")
    load_denoiser(denoiser, tmp_path / "ours.safetensors")
    assert same(dict(own_weights(plain)), dict(own_weights(denoiser)))


def test_types(tmp_path: Path) -> None:
    weights = random_official()
    torch.save(weights, tmp_path / "half.pt")
    cast, real = meta(), build_denoiser(TINY)
    load_denoiser(cast, tmp_path / "half.pt", dtype=torch.bfloat16)
    assert {p.dtype for p in cast.parameters()} == {torch.bfloat16}
    before = list(real.parameters())
    load_denoiser(real, tmp_path / "half.pt")  # a denoiser that has weights keeps its own tensors and their type
    assert all(a is b for a, b in zip(before, real.parameters(), strict=True))
    assert {p.dtype for p in real.parameters()} == {torch.float32}
    assert same({k: v.half() for k, v in to_official(real).items()}, weights)
    assert all(p.requires_grad for p in cast.parameters())


def test_misfits_are_user_errors(tmp_path: Path) -> None:
    good = random_official()
    name, shape = "VideoControlNet.zero_convs.0.0.weight", (4, 4, 1, 1)
    for weights, words in (
        ({k: v for k, v in good.items() if k != name}, rf"1 missing \({name}\)"),
        ({**good, "extra.weight": torch.zeros(1)}, r"1 left over \(extra.weight\)"),
        (
            {**good, name: torch.zeros(4, 4)},
            rf"1 of another shape \({name} \(4, 4\) for \({', '.join(map(str, shape))}\)",
        ),
        ({"conv.weight": torch.zeros(1)}, r"missing \(.*, \.\.\.\); 1 left over \(conv.weight\)"),
    ):
        path = tmp_path / "wrong.pt"
        torch.save(weights, path)
        with pytest.raises(UserError, match=words) as caught:
            load_denoiser(meta(), path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_files_that_hold_no_weights_are_user_errors(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple:
            return (print, ("a checkpoint must not run code",))

    whole = tmp_path / "whole.pt"
    torch.save(random_official(), whole)
    (tmp_path / "cut.pt").write_bytes(whole.read_bytes()[:-1000])
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "empty.pt").touch()
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"state_dict": Code()}, tmp_path / "code.pt")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    for name in ("cut.pt", "text.pt", "text.safetensors", "empty.pt", "list.pt", "code.pt", "numbers.pt", "absent.pt"):
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            load_denoiser(meta(), tmp_path / name)
