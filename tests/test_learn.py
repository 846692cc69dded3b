"""Learning a face from reference pictures alone: the losses, what is kept, and ``restore --learn``."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.training_options import PolishConfig
from ipfvr.data.sample import portrait, sample_clip
from ipfvr.data.scenes import Person as Learned
from ipfvr.data.scenes import load_picture
from ipfvr.faces.detect import make_detector
from ipfvr.faces.recognise import load_recogniser
from ipfvr.film.effect import mean_difference
from ipfvr.film.job import Job, Person
from ipfvr.film.learn import with_learned
from ipfvr.film.run import restore
from ipfvr.models.lora import CARD, WEIGHTS, read_card
from ipfvr.training.balance import Balance
from ipfvr.training.copies import draw_copies
from ipfvr.training.likeness import likeness_losses, person_loss
from ipfvr.training.pictures import PictureLoraTraining, learned_folder, learned_lora, learning
from ipfvr.video.reader import read_frames
from ipfvr.video.writer import write_picture, write_video

QUICK = ["learn.steps=2", "learn.batch=2", "learn.copies=2"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_picture(tmp_path / "photo.png", portrait())
    return tmp_path / "photo.png"


def crops(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 3, 112, 112, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_losses_of_the_truth_itself_are_nothing() -> None:
    judges = [load_recogniser("mini/dlib"), load_recogniser("mini/recogniser")]
    frames = torch.from_numpy(sample_clip(2, 128)).permute(0, 3, 1, 2) / 127.5 - 1
    points = np.random.default_rng(0).uniform(30, 90, (2, 5, 2))
    polish = PolishConfig(identity=1.0, features=0.5)
    rng = np.random.default_rng(0)
    for one_person in (False, True):
        losses = likeness_losses(judges, frames, frames, points, polish, 0.01, rng, one_person=one_person)
        assert {name: share for name, (_, share) in losses.items()} == {
            "identity_dlib": 1.0,
            "identity_recogniser": 1.0,
            "features": 0.5,
        }
        assert all(abs(float(loss)) < 1e-4 for loss, _ in losses.values())
    assert likeness_losses([], frames, frames, points, polish, 0.01, rng) == {}
    assert likeness_losses(judges, frames, frames, points, PolishConfig(), 0.01, rng) == {}


def test_of_one_person_the_common_mean_stays() -> None:
    """About their own mean, equal truths would leave nothing to compare with."""
    judge, wanted = load_recogniser("mini/dlib"), crops(1, 0).repeat(3, 1, 1, 1)
    found = crops(3, 1)
    expected = 1 - torch.nn.functional.cosine_similarity(judge.embed(found), judge.embed(wanted)).mean()
    assert person_loss(judge, found, wanted, one_person=True) == pytest.approx(float(expected), abs=1e-5)
    assert 0 < expected < 0.6 < person_loss(judge, found, wanted)


def test_balance_adds_gradients_of_the_lengths_that_the_shares_say() -> None:
    torch.manual_seed(0)
    weight, real = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    drawn = weight * 2
    loss = (drawn - real).square().mean()
    same, values = Balance().add(loss, drawn, real, lambda _: {})
    assert same is loss
    assert values == {}
    joined, values = Balance().add(loss, drawn, real, lambda x: {"sum": (1e4 * x.sum(), 0.5)})
    assert values["sum"] == pytest.approx(float(1e4 * drawn.detach().sum()))
    (own,) = torch.autograd.grad(loss, drawn, retain_graph=True)
    (both,) = torch.autograd.grad(joined, drawn)
    added = both - own
    # The squared error's gradient is 2 (drawn - real) / N, as long as 2 loss / |drawn - real|.
    assert float(added.norm()) == pytest.approx(0.5 * float(own.norm()), rel=1e-4)
    assert float(added.std()) == pytest.approx(0.0, abs=1e-7)  # along the gradient of a sum


def test_what_is_learnt_is_kept_by_all_that_it_depends_on(photo: Path) -> None:
    config = load_config(None, QUICK)
    folder = learned_lora(config, "anna", [photo])
    card = read_card(folder)
    assert (card["identity"], card["steps"]) == ("anna", 2)
    assert [reference["file"] for reference in card["references"]] == ["photo.png"]
    before = (folder / CARD).stat().st_mtime_ns
    renamed = photo.with_name("again.png")
    shutil.copy(photo, renamed)
    assert learned_lora(config, "anna", [renamed]) == folder
    assert (folder / CARD).stat().st_mtime_ns == before
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    others = ["learn.steps=3", "image_prompt.scale=1", "seed=1", "lora.rank=4", "faces.detector=centerface"]
    others += ["learn.recognisers=[mini/recogniser]", "degradation.scale_sigma=false", "faces.max_side=320"]
    known = {learned_folder(load_config(None, [*QUICK, other]), [photo]) for other in others}
    assert len(known | {folder}) == len(others) + 1
    for other in ("video.crf=3", "faces.every=1", "sampler.steps=4", "degradation.level=light", "people.same=0.2"):
        assert learned_folder(load_config(None, [*QUICK, other]), [photo]) == folder
    assert learned_folder(config, [photo], choose=1) != folder
    (photo.parent / "prompt.yaml").write_text("positive: a woman\n")
    assert learned_folder(config, [photo]) != folder
    (photo.parent / "prompt.yaml").unlink()
    write_picture(renamed, portrait()[::-1])
    assert learned_folder(config, [renamed]) != folder


def test_two_who_want_one_face_at_once_learn_it_once(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Path] = []

    def learn_slowly(config: object, pictures: object, folder: Path, choose: int) -> None:
        begun.append(folder)
        time.sleep(0.5)  # long enough for the other to arrive
        (folder / CARD).write_text("{}")

    monkeypatch.setattr("ipfvr.training.pictures.learn", learn_slowly)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda name: learned_lora(load_config(None, QUICK), name, [photo]), ("anna", "ann")))
    assert len(begun) == 1
    assert folders[0] == folders[1]


def test_learning_twice_gives_the_same_bytes(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else has drawn random numbers before."""
    config = load_config(None, [*QUICK, "preset=tiny", "learn.steps=3", "prompt.describe=false"])
    made = []
    for number in range(2):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{number}"))
        np.random.seed(number)
        torch.manual_seed(number)
        made.append(learned_lora(config, "anna", [photo]))
    first, second = ((folder / WEIGHTS).read_bytes() for folder in made)
    assert first == second
    card = read_card(made[0])
    assert card["reward"]["kind"] == "likeness to the pictures"
    assert set(card["reward"]["recognisers_sha256"]) == set(config.learn.recognisers)


def test_restore_learns_from_the_reference_first(tmp_path: Path, photo: Path) -> None:
    small = np.stack([cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in sample_clip(3, 256)])
    write_video(tmp_path / "in.mp4", np.stack([cv2.resize(f, (256, 256)) for f in small]), Fraction(25), 0)
    config = load_config(None, ["learn.steps=6", "learn.batch=2", "learn.copies=6", "learn.lr=0.2", "video.crf=0"])
    job = Job(tmp_path / "in.mp4", tmp_path / "out.mp4", references=(photo,), aligned=True)
    restore(replace(job, references=()), config)
    without = read_frames(job.output)
    plain = restore(replace(job, learn=False), config)
    learnt = restore(job, config)
    assert plain["lora"] is None
    assert read_card(learned_folder(config, [photo]))["adapter_sha256"] == learnt["lora"]["sha256"]
    assert "--no-learn" in plain["command"]
    assert "--lora" not in learnt["command"]
    # What the reference changes is what both ways change, against a restoration that knows neither.
    changed = mean_difference(read_frames(job.output), without)
    assert learnt["reference_change"] == pytest.approx(changed, rel=0.2)
    assert abs(changed - plain["reference_change"]) > 0.5
    assert json.loads((tmp_path / "out.json").read_text())["inputs"] != plain["inputs"]


@pytest.mark.parametrize("preset", ["mini", "tiny"])
def test_who_has_pictures_is_learned_where_the_preset_says_so(preset: str) -> None:
    config, none = load_config(None, [f"preset={preset}"]), Job(Path("in.mp4"), Path("out.mp4"))
    job = replace(none, references=(Path("photo.png"),))
    assert job.learns(config) == (preset == "mini")
    assert replace(job, learn=True).learns(config)
    assert not replace(job, learn=False).learns(config)
    assert not none.learns(config)


def test_nothing_is_learned_of_those_who_have_a_lora_or_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("anna", "ben", "cara", "dora")
    people = tuple(Person(name, (Path(f"{name}.png"),), "own" if name == "cara" else "") for name in names)
    job = Job(Path("in.mp4"), Path("out.mp4"), people=people)
    monkeypatch.setattr("ipfvr.film.learn.learned_lora", lambda config, name, *_: f"learned/{name}")
    plan = SimpleNamespace(people={name: None for name in names if name != "dora"})  # dora is not in the film
    made = with_learned(job, plan, load_config(None, ["learn.skip=[ben]"])).people
    assert [person.lora for person in made] == ["learned/anna", "", "own", ""]
    assert [person.learned for person in made] == [True, False, False, False]


def test_copies_keep_what_no_adapter_changes(photo: Path) -> None:
    """With what was computed once, the network gives what it gives without; and of chosen copies, what it gives all."""
    config = learning(load_config(None, [*QUICK, "learn.copies=5"]), "anna")
    detector, recogniser = make_detector(config.faces), load_recogniser("mini/dlib")
    reference, scene = load_picture(photo, detector, recogniser, config.video.size)
    training = PictureLoraTraining(config, Learned("anna", [reference], [scene], []), recogniser, {})
    copies = draw_copies(training)
    for module in training.network.modules():
        if hasattr(module, "lora_B"):
            torch.nn.init.normal_(module.lora_B["default"].weight, std=0.1)
    with torch.no_grad():
        loss, whole = training.estimate(training.network, **copies.given._asdict())
        same, fast = training.estimate(training.network, **copies.given._asdict(), frozen=copies.frozen)
        few = copies.pick(torch.tensor([4, 1]))
        _, chosen = training.estimate(training.network, **few.given._asdict(), frozen=few.frozen)
    assert torch.allclose(whole, fast, atol=1e-4)
    assert torch.allclose(chosen, whole[[4, 1]], atol=1e-4)
    assert float(loss) == pytest.approx(float(same), rel=1e-4)
    assert float((whole - copies.base).abs().max()) > 0.01, "the adapters do change the estimate"
    assert torch.equal(few.real, copies.real[[4, 1]])


def test_without_pictures_nothing_can_be_learnt(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", sample_clip(1, 64), Fraction(25), 10)
    with pytest.raises(UserError, match="--learn learns from reference pictures"):
        restore(Job(tmp_path / "in.mp4", tmp_path / "out.mp4", learn=True), load_config(None, []))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder belongs")
    with pytest.raises(UserError, match=r"cannot keep what is learned in .*cache.*--no-learn"):
        learned_lora(load_config(None, QUICK), "anna", [photo])


def test_a_picture_without_a_face_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "wall.png", np.full((200, 200, 3), 90, np.uint8))
    with pytest.raises(UserError, match=r"wall\.png"):
        learned_lora(load_config(None, QUICK), "anna", [tmp_path / "wall.png"])
    assert not list((tmp_path / "cache").glob("ipfvr/learned/*"))  # nor a hidden one
