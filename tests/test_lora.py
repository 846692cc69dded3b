"""LoRA: what it adapts, its folder, and a training through the real entry point on the tiny preset."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import peft
import pytest
import torch
from people import RED, ColourRecogniser, StubDetector, make_person
from torch import Tensor, nn

from ipfvr import fit
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config, LoraConfig
from ipfvr.data.sample import portrait, sample_clip
from ipfvr.data.scenes import SceneData, load_person
from ipfvr.models.backbone import make_denoiser
from ipfvr.models.checkpoints import save_denoiser
from ipfvr.models.lora import add_lora, base_record, load_lora, read_card, save_lora, target_pattern
from ipfvr.models.networks import Networks
from ipfvr.models.unet import VideoDenoiser, VideoUNet
from ipfvr.restoration.restorer import Restorer
from ipfvr.restore import main as restore
from ipfvr.training import lora
from ipfvr.video.reader import read_frames


def tiny(*more: str) -> Config:
    return load_config(None, ["preset=tiny", *more])


def denoiser(config: Config, seed: int = 0) -> VideoDenoiser:
    """With random weights everywhere: those that start at zero would hide the adapters."""
    torch.manual_seed(seed)
    network = make_denoiser(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@torch.no_grad()
def answer(network: VideoDenoiser) -> Tensor:
    torch.manual_seed(7)
    x, text = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 5, 16)
    step = torch.tensor([400])
    return network(x, step, text, torch.randn_like(x), torch.zeros(1), torch.tensor([2]), torch.zeros(1, 3))


def adapted(network: VideoDenoiser, config: LoraConfig, seed: int = 1) -> peft.PeftModel:
    """Adapters with random B, put in the denoiser's place."""
    network.unet = add_lora(network.unet, config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.unet.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return network.unet


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor, Tensor]:
    """A folder, and what the denoiser answers without and with its adapters."""
    config, folder = tiny(), tmp_path_factory.mktemp("lora") / "anna"
    network = denoiser(config)
    plain = answer(network)
    save_lora(adapted(network, LoraConfig(rank=3)), folder, {"base": base_record(config), "identity": "anna"})
    return folder, plain, answer(network)


def test_fresh_adapters_change_nothing_and_alone_learn() -> None:
    network = denoiser(tiny())
    before = answer(network)
    network.unet = add_lora(network.unet, LoraConfig())
    assert torch.equal(answer(network), before)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning
    assert all(".lora_" in name for name in learning)


@pytest.mark.parametrize("layers", [["spatial"], ["temporal"], ["spatial", "temporal"]])
def test_every_attention_of_the_chosen_layers_is_adapted_and_nothing_else(layers: list[str]) -> None:
    unet: VideoUNet = make_denoiser(tiny()).unet
    unet.add_image_prompt(16)
    wanted = set()
    for name, module in unet.named_modules():
        kind = "spatial" if ".spatial" in name else "temporal"
        if name.endswith((".attn1", ".attn2")) and kind in layers:
            wanted |= {
                f"{name}.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0") if isinstance(module, nn.Module)
            }
    model = add_lora(unet, LoraConfig(layers=layers))
    found = {
        n.removeprefix("base_model.model.").split(".lora_A")[0] for n, _ in model.named_parameters() if "lora_A" in n
    }
    assert found == wanted
    assert wanted


def test_options_without_meaning_are_named() -> None:
    with pytest.raises(UserError, match=r"lora\.layers has \['control'\]: choose from spatial, temporal"):
        target_pattern(LoraConfig(layers=["control"]))
    with pytest.raises(UserError, match=r"lora\.targets has no entry"):
        target_pattern(LoraConfig(targets=[]))
    with pytest.raises(UserError, match=r"lora\.rank 0 must be at least 1"):
        add_lora(make_denoiser(tiny()).unet, LoraConfig(rank=0))


def test_merged_or_not_and_loaded_by_peft_itself_the_numbers_are_one(saved: tuple[Path, Tensor, Tensor]) -> None:
    folder, plain, wanted = saved
    assert (wanted - plain).abs().max() > 1e-3
    merged = denoiser(tiny())
    card = load_lora(merged, folder, tiny())
    assert card["identity"] == "anna"
    assert type(merged.unet) is VideoUNet
    assert torch.allclose(answer(merged), wanted, atol=1e-5)
    by_peft = denoiser(tiny())
    by_peft.unet = peft.PeftModel.from_pretrained(by_peft.unet, str(folder))
    assert torch.equal(answer(by_peft), wanted)


def test_a_folder_of_half_precision_merges_too(saved: tuple[Path, Tensor, Tensor]) -> None:
    half = denoiser(tiny()).to(torch.bfloat16)
    load_lora(half, saved[0], tiny())
    assert {p.dtype for p in half.unet.parameters()} == {torch.bfloat16}


def test_people_have_a_folder_each(saved: tuple[Path, Tensor, Tensor], tmp_path: Path) -> None:
    """Another person's adapters do not touch the first one's, nor the base they share."""
    network = denoiser(tiny())
    card = {"base": base_record(tiny()), "identity": "ben"}
    save_lora(adapted(network, LoraConfig(rank=2), seed=5), tmp_path / "ben", card)
    bens, first = answer(network), denoiser(tiny())
    load_lora(first, saved[0], tiny())
    assert torch.allclose(answer(first), saved[2], atol=1e-5)
    assert (bens - saved[2]).abs().max() > 1e-3


def test_another_base_is_refused(saved: tuple[Path, Tensor, Tensor]) -> None:
    with pytest.raises(UserError, match=r"was trained on .*give weights\.denoiser"):
        load_lora(denoiser(tiny()), saved[0], tiny("seed=1"))


def test_another_size_is_refused_though_the_hash_fits(saved: tuple[Path, Tensor, Tensor]) -> None:
    wide = tiny("denoiser.width=32")
    with pytest.raises(UserError, match=r"does not fit this denoiser at 'base_model\.model.*other sizes"):
        load_lora(make_denoiser(wide), saved[0], wide)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "card.json"])
def test_a_missing_file_is_named(saved: tuple[Path, Tensor, Tensor], tmp_path: Path, name: str) -> None:
    for file in saved[0].iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=f"is broken: {name} is missing"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("adapter_config.json", "{", "adapter_config.json is not JSON"),
        ("card.json", "{}", "card.json names no base"),
        ("adapter_model.safetensors", "torn", "adapter_model.safetensors is not the file that card.json speaks of"),
    ],
)
def test_an_invalid_file_is_named(
    saved: tuple[Path, Tensor, Tensor], tmp_path: Path, name: str, content: str, reason: str
) -> None:
    for file in saved[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=reason):
        read_card(tmp_path)


def test_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no LoRA folder .*nowhere"):
        read_card(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps with the reward, then a fourth, on two scenes of a person made of textures."""
    root = tmp_path_factory.mktemp("people")
    make_person(root, "anna", RED, train=2)
    save_denoiser(denoiser(tiny()), root / "base.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora, "make_detector", lambda config: StubDetector())
        patch.setattr(lora, "load_recogniser", lambda name: ColourRecogniser())
        for steps in (3, 4):
            fit.main(["--config", "experiments/lora.yaml", *pairs(root), f"optimizer.steps={steps}"])
    return root / "out"


def pairs(root: Path) -> list[str]:
    return [
        "preset=tiny",
        f"data.root={root}",
        "data.identity=anna",
        "reward.max_step=899",
        "reward.bound=9",
        "loss.reward=1",
        "optimizer.lr=0.03",
        f"weights.denoiser={root / 'base.safetensors'}",
        f"train.output={root / 'out'}",
        "train.wandb=disabled",
        "train.precision=fp32",
        "train.accelerator=cpu",
    ]


def test_a_training_leaves_a_folder_that_peft_reads_and_a_card(trained: Path) -> None:
    card = read_card(trained / "weights")
    assert [card["identity"], card["steps"], len(card["scenes"]), len(card["test_scenes"])] == ["anna", 4, 2, 1]
    assert card["base"]["sha256"] == sha256(trained.parent / "base.safetensors")
    assert card["reward"]["weight"] == 1
    assert {"loss/rec", "loss/id_reward", "loss/total"} <= set(card["losses"]["last"][0])
    assert "paper takes 4" in card["remarks"][0]
    model = peft.PeftModel.from_pretrained(make_denoiser(tiny()).unet, str(trained / "weights"))
    moved = [float(p.detach().abs().max()) for n, p in model.named_parameters() if "lora_B" in n]
    assert min(moved) > 0, "every adapter has learnt"


def test_a_checkpoint_holds_the_adapters_alone(trained: Path) -> None:
    state = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=False)
    assert state["state_dict"]
    assert all(".lora_" in name for name in state["state_dict"])
    assert [row["step"] for row in state["history"]] == [0, 1, 2, 3], "the log goes on over a resume"


def test_losses_and_every_frame_are_logged_and_a_clip_shown_before_and_after(trained: Path) -> None:
    with (trained / "log" / "from_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"loss/rec", "loss/id_reward", "reward/R_f", "reward/drift", *(f"r_f/0{i}" for i in range(6))} <= set(
        rows[0]
    )
    report = json.loads((trained / "report.json").read_text())
    assert report["scene"] == "s2.mp4"
    assert set(report["clips"]) == {"low quality", "before", "after", "truth"}
    with (trained / "rewards.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 6
    means = np.mean([float(row["after"]) for row in table])
    assert report["clips"]["after"]["r_f"] == pytest.approx(means, abs=1e-4)
    assert (trained / "strip.png").is_file()


def test_restore_with_a_lora_differs_and_its_record_names_it(trained: Path, tmp_path: Path) -> None:
    video = next((trained.parent / "anna" / "test").glob("*.mp4"))
    base = trained.parent / "base.safetensors"
    common = [str(video), "--aligned", "preset=tiny", f"weights.denoiser={base}"]
    restore([*common, "--output", str(tmp_path / "plain.mp4")])
    restore([*common, "--lora", str(trained / "weights"), "--output", str(tmp_path / "anna.mp4")])
    card = read_card(trained / "weights")
    record = json.loads((tmp_path / "anna.json").read_text())
    assert record["lora"] == {"person": "anna", "sha256": card["adapter_sha256"]}
    assert "sha256" in record["weights"]["lora"]
    assert json.loads((tmp_path / "plain.json").read_text())["lora"] is None
    plain, anna = read_frames(tmp_path / "plain.mp4"), read_frames(tmp_path / "anna.mp4")
    assert plain.shape == anna.shape
    assert not np.array_equal(plain, anna)
    with pytest.raises(UserError, match="was trained on"):
        restore([*common[:-1], "--lora", str(trained / "weights"), "--output", str(tmp_path / "no.mp4")])
    assert not (tmp_path / "no.mp4").exists()


def test_the_reward_adds_its_gradient_and_spares_steps_above_its_bound(tmp_path: Path) -> None:
    """With weight 0, or above ``reward.max_step``, the loss is Eq. 3's alone; else Eq. 8 is added."""
    make_person(tmp_path, "anna", RED, train=1)
    save_denoiser(denoiser(tiny()), tmp_path / "base.safetensors")

    def run(*more: str) -> dict[str, float]:
        config = load_config("experiments/lora.yaml", [*pairs(tmp_path), *more])
        person = load_person(config, ColourRecogniser(), StubDetector())
        torch.manual_seed(0)
        module, data = lora.LoraTraining(config, person, ColourRecogniser()), SceneData(config, person)
        data.setup()
        module.log_dict = lambda *_, **__: None
        torch.manual_seed(0)
        batch = copy.deepcopy(next(iter(data.train_dataloader())))
        torch.manual_seed(0)
        module.training_step(batch, 0)
        return module.history[0]

    with_reward, without, above = run(), run("loss.reward=0"), run("reward.max_step=500")
    assert "loss/id_reward" not in without
    assert "loss/id_reward" not in above
    assert with_reward["loss/rec"] == without["loss/rec"] == above["loss/rec"] == above["loss/total"]
    assert with_reward["loss/total"] == pytest.approx(with_reward["loss/rec"] + with_reward["loss/id_reward"], abs=1e-4)


def test_a_training_restores_in_between_as_restore_does() -> None:
    """With the negative streams, which a report that ran the sampler by itself had left out."""
    config = load_config(None, ["preset=mini", "sampler.guider=multi_stream", "sampler.steps=2", "dtype=fp32"])
    face = portrait()[:256, 150:406]
    low = np.stack([cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in sample_clip(2, 256)])
    whole = Restorer(config)
    conditions = whole.conditions([face])
    assert conditions.degraded_tokens is not None
    parts = whole.networks
    held = Networks.of_training(config, parts.codec, parts.text_encoder, parts.denoiser, parts.image_prompt())
    again = Restorer(config, held)
    restored = again.restore(low, again.conditions([face]))
    assert np.array_equal(restored, whole.restore(low, conditions))
