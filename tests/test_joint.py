"""Training of denoiser and image prompt together, through the real entry point."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from people import RED, make_person
from safetensors.torch import load_file

from ipfvr.config import load_config
from ipfvr.fit import main
from ipfvr.models.backbone import make_denoiser, make_image_prompt
from ipfvr.models.checkpoints import own_weights
from ipfvr.training.joint import JointTraining


@pytest.fixture
def training() -> JointTraining:
    torch.manual_seed(0)
    return JointTraining(load_config(None, ["preset=tiny", "data.references=1", "loss.drop_image=0.5"]))


def test_all_of_the_denoiser_and_the_prompt_learn_each_once(training: JointTraining) -> None:
    trained = [id(p) for p in training.network.parameters()]
    wanted = {id(p) for p in training.denoiser.parameters()}
    wanted |= {id(p) for p in training.prompt.image_proj.parameters()}
    assert len(trained) == len(set(trained))
    assert set(trained) == wanted == {id(p) for p in training.parameters() if p.requires_grad}


def test_the_average_shares_what_the_network_shares(training: JointTraining) -> None:
    """K_i and V_i are the adapter's and the denoiser's: one average, not two."""
    ours = {id(p) for p in training.ema["denoiser"].parameters()}
    assert all(id(p) in ours for p in training.ema["adapter"]["ip_adapter"].parameters())


def test_batches_without_an_image_prompt_have_none_at_all(training: JointTraining) -> None:
    batch = {"reference": torch.rand(3, 1, 3, 32, 32) * 2 - 1}
    torch.manual_seed(0)
    shown = [training.show(batch) for _ in range(20)]
    without = [s for s in shown if s[0] is None]
    assert 4 < len(without) < 16
    assert not any(strange.any() for _, _, strange in without)
    assert training.nobody(batch["reference"]) is None


def test_fit_writes_both_files_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("anna", "ben", "carl"):
        make_person(tmp_path / "data", name, RED, train=1)
    (tmp_path / "heldout.yaml").write_text("identities: [carl]\n")
    (tmp_path / "one.yaml").write_text("preset: tiny\n")
    pairs = ["train.module=joint", "data.references=1", "data.batch_size=2", "train.wandb=disabled"]
    pairs += ["train.precision=fp32", "train.accelerator=cpu", "train.validation_batches=1", "train.validate_every=2"]
    pairs += [
        "optimizer.lr=0.02",
        "optimizer.warmup=1",
        "optimizer.ema=0.5",
    ]  # untrained last layers give no gradient before they move
    pairs += [f"data.root={tmp_path / 'data'}", f"data.heldout={tmp_path / 'heldout.yaml'}"]
    command = ["--config", str(tmp_path / "one.yaml"), *pairs, f"train.output={tmp_path / 'run'}", "train.log_every=1"]
    main([*command, "optimizer.steps=2"])
    files = [tmp_path / "run" / "weights" / f"{name}.safetensors" for name in ("denoiser", "adapter")]
    first = [load_file(file) for file in files]
    main([*command, "optimizer.steps=6"])
    assert "going on from step 2" in capsys.readouterr().out
    second = [load_file(file) for file in files]
    assert all(any(not torch.equal(a[k], b[k]) for k in a) for a, b in zip(first, second, strict=True))
    config = load_config(None, ["preset=tiny", f"weights.denoiser={files[0]}", f"weights.adapter={files[1]}"])
    denoiser = make_denoiser(config)
    assert make_image_prompt(config, denoiser) is not None
    assert set(own_weights(denoiser)) == set(second[0])
