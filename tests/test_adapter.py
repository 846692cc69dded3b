"""Training of the image prompt, through the real entry point, and the references it draws."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from stubs import stub_recogniser

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.pixels import to_frames
from ipfvr.data.faces import Draw, FaceData, draw_augmentation, moved_template
from ipfvr.faces.align import apply, face_template
from ipfvr.fit import main
from ipfvr.models.backbone import make_denoiser, make_image_prompt
from ipfvr.models.checkpoints import save_denoiser
from ipfvr.training.adapter import AdapterTraining, exchange_references, exchanged, misplaced
from ipfvr.video.writer import VideoWriter

SIDE = 32


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one grey each, so that an item says which it took: anna has 3, ben has 1, carl (held out) 2.

    Anna has a clip and a picture cut from it, dora a clip alone, whose frames grow brighter.
    """
    root = tmp_path_factory.mktemp("data")
    greys = {"anna": (10, 20, 30), "ben": (40,), "carl": (60, 70)}
    for name, values in greys.items():
        (root / name / "reference").mkdir(parents=True)
        for value in values:
            Image.new("RGB", (SIDE, SIDE), (value,) * 3).save(root / name / "reference" / f"{value}.png")
    Image.new("RGB", (SIDE, SIDE), (200,) * 3).save(root / "anna" / "reference" / "a_f0003.png")
    for name in ("anna", "dora"):
        (root / name / "train").mkdir(parents=True)
        with VideoWriter(root / name / "train" / "a.mp4", SIDE, SIDE, 25, crf=0) as writer:
            for value in range(12):
                writer.write(np.full((SIDE, SIDE, 3), 100 + 8 * value, np.uint8))
    (root / "heldout.yaml").write_text("identities: [carl]\n")
    return root


def pairs(root: Path, output: Path, *more: str) -> list[str]:
    return [
        "preset=tiny",
        f"data.root={root}",
        f"data.heldout={root / 'heldout.yaml'}",
        "data.batch_size=2",
        "data.clip_frames=3",
        "data.clip_every=2",
        "data.references=2",
        f"train.output={output}",
        "train.module=adapter",
        "train.wandb=disabled",
        "train.precision=fp32",
        "train.accelerator=cpu",
        "train.validation_batches=1",
        "train.validate_every=2",
        "train.log_every=1",
        *more,
    ]


def drawn(data: FaceData, index: int, seeds: int = 40) -> list[tuple[int, set[int]]]:
    """The mean grey of an item's own frames and the greys of its references, for some seeds."""
    found = []
    for seed in range(seeds):
        item = data.train[Draw(index, seed)]
        reference = to_frames(item["reference"])
        assert reference.shape == (2, SIDE, SIDE, 3)
        found.append((round(float(to_frames(item["pixels"]).mean())), {round(float(r.mean())) for r in reference}))
    return found


def test_references_are_other_pictures_of_the_same_person(root: Path) -> None:
    data = FaceData(load_config(None, pairs(root, root)))
    data.setup()
    names = [f"{f.parent.parent.name}/{f.stem}" for f in data.train.pictures.files]
    seen = set().union(*(r for _, r in drawn(data, names.index("anna/20"))))
    assert seen == {10, 30, 200}
    assert all(r == {40} for _, r in drawn(data, names.index("ben/40"), 3))  # he has no other
    assert all(len(r) == 2 for _, r in drawn(data, names.index("anna/20"), 10))  # two different ones


def test_a_picture_may_be_its_own_reference(root: Path) -> None:
    data = FaceData(load_config(None, pairs(root, root, "data.own_reference=1")))
    data.setup()
    names = [f"{f.parent.parent.name}/{f.stem}" for f in data.train.pictures.files]
    assert all(own == 20 and r == {20} for own, r in drawn(data, names.index("anna/20"), 5))


def test_a_clips_reference_is_a_picture_or_a_frame_far_away(root: Path) -> None:
    data = FaceData(load_config(None, pairs(root, root)))
    data.setup()
    clips = {f.parent.parent.name: len(data.train.pictures) + i for i, f in enumerate(data.train.clips.files)}
    assert set().union(*(r for _, r in drawn(data, clips["anna"]))) == {10, 20, 30}  # not 200, cut from this clip
    for mean, references in drawn(data, clips["dora"]):
        assert all(abs(r - mean) > 8 * 2 for r in references)  # three frames in a window: none of them


def test_an_item_is_the_same_with_and_without_references(root: Path) -> None:
    with_, without = (FaceData(load_config(None, pairs(root, root, f"data.references={n}"))) for n in (2, 0))
    with_.setup()
    without.setup()
    for index in (0, len(with_.train) - 1):
        a, b = with_.train[Draw(index, 9)], without.train[Draw(index, 9)]
        assert set(a) - set(b) == {"reference"}
        assert torch.equal(a["low"], b["low"])
        assert torch.equal(a["reference"], with_.train[Draw(index, 9)]["reference"])


def test_references_are_mirrored_with_their_item(tmp_path: Path) -> None:
    """Half black, half white: whatever the coin says, the dark side is the same in both."""
    (tmp_path / "eve" / "reference").mkdir(parents=True)
    face = np.zeros((SIDE, SIDE, 3), np.uint8)
    face[:, SIDE // 2 :] = 255
    for name in ("1.png", "2.png"):
        Image.fromarray(face).save(tmp_path / "eve" / "reference" / name)
    data = FaceData(load_config(None, ["preset=tiny", f"data.root={tmp_path}", "data.references=1"]))
    data.setup()
    sides = set()
    for seed in range(12):
        item = data.train[Draw(0, seed)]
        dark = [
            bool(x[..., : SIDE // 2].mean() < x[..., SIDE // 2 :].mean()) for x in (item["pixels"], item["reference"])
        ]
        assert dark[0] == dark[1]
        sides.add(dark[0])
    assert sides == {True, False}


def test_landmarks_follow_the_augmentation() -> None:
    """A mirrored face's points are those of a face: the first eye stays on the left."""
    config, rng = load_config(None, ["data.zoom=0.1"]), np.random.default_rng(0)
    template = face_template(128)
    for _ in range(8):
        matrix = draw_augmentation(160, 128, config.data, rng)
        points = moved_template(matrix, 160)
        assert np.abs(points - template).max() < 0.35 * 128
        assert points[0, 0] < points[1, 0]
        assert points[3, 0] < points[4, 0]
        assert np.allclose(np.sort(points[:, 0]), np.sort(apply(matrix, face_template(160))[:, 0]))
    assert np.allclose(moved_template(draw_augmentation(160, 128, None, rng), 160), template, atol=0.5)


def test_fit_trains_the_adapter_alone_and_goes_on(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    experiment, output = tmp_path / "one.yaml", tmp_path / "run"
    experiment.write_text("preset: tiny\n")
    torch.manual_seed(0)
    base = make_denoiser(load_config(None, ["preset=tiny"]))
    for parameter in base.parameters():
        if not parameter.any():  # an untrained base's last layers are zero and give no gradient
            torch.nn.init.normal_(parameter, std=0.2)
    save_denoiser(base, tmp_path / "base.safetensors")
    common = ["--config", str(experiment), *pairs(root, output, f"weights.denoiser={tmp_path / 'base.safetensors'}")]
    main([*common, "optimizer.steps=2"])
    file = output / "weights" / "adapter.safetensors"
    first = load_file(file)
    with caplog.at_level(logging.INFO, "ipfvr"):
        main([*common, "optimizer.steps=4"])
    assert "going on from step 2" in caplog.text
    second = load_file(file)
    assert {n.split(".")[0] for n in second} == {"image_proj", "ip_adapter"}
    assert all(second[f"ip_adapter.{n}.to_v_ip.weight"].any() for n in (1, 3, 5))  # they left zero
    assert not torch.equal(first["ip_adapter.1.to_v_ip.weight"], second["ip_adapter.1.to_v_ip.weight"])
    config = load_config(None, ["preset=tiny", f"weights.adapter={file}"])
    assert make_image_prompt(config, make_denoiser(config)) is not None
    columns = (output / "log" / "from_0" / "metrics.csv").read_text().splitlines()[0]
    assert {"val/loss_right", "val/loss_none", "val/loss_wrong"} <= set(columns.split(","))


@pytest.fixture
def training() -> AdapterTraining:
    torch.manual_seed(0)
    return AdapterTraining(load_config(None, ["preset=tiny", "data.references=1", "loss.drop_image=1"]))


def test_only_projection_and_image_keys_and_values_learn(training: AdapterTraining) -> None:
    trained = {id(p) for p in training.network.parameters()}
    assert {id(p) for p in training.parameters() if p.requires_grad} == trained
    count = sum(p.numel() for p in training.prompt.image_proj.parameters())
    count += sum(p.numel() for a in training.denoiser.unet.cross_attentions() for p in a.processor.parameters())
    assert sum(p.numel() for p in training.network.parameters()) == count


@torch.no_grad()
def test_a_dropped_image_prompt_is_everybodys(training: AdapterTraining) -> None:
    a, b = torch.rand(2, 2, 1, 3, 32, 32)
    nobody = torch.zeros(2, dtype=torch.bool)
    assert torch.equal(training.image_tokens(a, nobody), training.image_tokens(b, nobody))
    mixed = training.image_tokens(a, torch.tensor([True, False]))
    assert torch.allclose(mixed[0], training.prompt(a)[0], atol=1e-5)
    assert torch.allclose(mixed[1], training.image_tokens(b, nobody)[1], atol=1e-5)


def test_identity_loss_compares_each_estimate_with_its_own_truth(training: AdapterTraining, tmp_path: Path) -> None:
    """With the codec out of the way: 1 for the truth itself, less for another's, and a gradient that makes it more."""
    training.codec.decode = lambda latents: latents
    judge = stub_recogniser(tmp_path)
    pixels = torch.rand(3, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    landmarks = torch.from_numpy(face_template(32)).float().repeat(3, 1, 1)
    batch, nobody = {"pixels": pixels, "landmarks": landmarks}, torch.zeros(3, dtype=torch.bool)
    wanted = training.wanted(judge, batch, pixels[:, :1], nobody)
    truth = pixels.transpose(1, 2)
    assert torch.allclose(training.similarity(judge, truth, landmarks, wanted), torch.ones(3, 2), atol=1e-5)
    wrong = truth.flip(0)[:2].clone().requires_grad_()
    before = training.similarity(judge, wrong, landmarks[:2], wanted[:2])
    assert before[0].max() < 0.99
    (gradient,) = torch.autograd.grad(before[0].sum(), wrong)
    nearer = wrong.detach() + 0.05 * gradient / gradient.abs().max()
    assert (training.similarity(judge, nearer, landmarks[:2], wanted[:2])[0] > before[0]).all()


def test_a_stranger_is_wanted_as_the_references_show_him(training: AdapterTraining, tmp_path: Path) -> None:
    judge = stub_recogniser(tmp_path)
    pixels = torch.rand(3, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    landmarks = torch.from_numpy(face_template(32)).float().repeat(3, 1, 1)
    batch, strange = {"pixels": pixels, "landmarks": landmarks}, torch.tensor([False, True, False])
    shown = pixels[[0, 2, 1], :1]
    wanted = training.wanted(judge, batch, shown, strange)
    own = training.wanted(judge, batch, shown, torch.zeros_like(strange))
    assert torch.equal(wanted[~strange], own[~strange])
    assert torch.allclose(wanted[1], own[2, :1].expand(2, -1), atol=1e-5)


def test_landmarks_are_misplaced_by_as_much_as_is_said() -> None:
    landmarks = torch.rand(400, 5, 2) * 32
    assert misplaced(landmarks, 0) is landmarks
    shifts = misplaced(landmarks, 2.0) - landmarks
    assert shifts.std() == pytest.approx(2, rel=0.1)
    assert abs(float(shifts.mean())) < 0.2


def test_references_are_exchanged_in_a_circle() -> None:
    references = torch.arange(64.0).reshape(64, 1, 1)
    kept = torch.arange(64) % 4 > 0
    torch.manual_seed(0)
    shown, strange = exchange_references(references, kept, 0.5)
    assert not strange[~kept].any()
    assert 10 < strange.sum() < 40
    assert torch.equal(shown[~strange], references[~strange])
    assert (shown[strange] != references[strange]).all()
    assert torch.equal(shown.flatten().sort().values, references.flatten())
    for share, among in ((0.0, kept), (1.0, torch.arange(64) == 5)):
        shown, strange = exchange_references(references, among, share)
        assert torch.equal(shown, references)
        assert not strange.any()


def test_the_average_is_used_and_given_back(training: AdapterTraining) -> None:
    name, live = next(iter(training.network.named_parameters()))
    averaged = dict(training.ema.named_parameters())[name]
    with torch.no_grad():
        averaged.add_(1)
    before, average = live.clone(), averaged.clone()
    with exchanged(training.network, training.ema):
        assert torch.equal(live, average)
        assert torch.equal(averaged, before)
    assert torch.equal(live, before)
    assert torch.equal(averaged, average)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("data.references=0",), "data.references"),
        (("image_prompt.source=none",), "image_prompt.source"),
        (("loss.identity=1", "loss.recognisers=[nothing.pt]"), "nothing.pt"),
    ],
)
def test_what_a_user_can_get_wrong(root: Path, tmp_path: Path, more: tuple[str, ...], says: str) -> None:
    experiment = tmp_path / "one.yaml"
    experiment.write_text("preset: tiny\n")
    with pytest.raises(UserError, match=says):
        main(["--config", str(experiment), *pairs(root, tmp_path / "run", *more)])
