"""Rows that run in process: what they write, what they look at, and what differs between ours and the base."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from people import StubDetector, texture

from ipfvr.core.config import config_to_dict, load_config
from ipfvr.core.errors import UserError
from ipfvr.core.files import whole_folder
from ipfvr.core.options import Config
from ipfvr.core.pixels import resize_frame
from ipfvr.faces.reference import aligned_reference
from ipfvr.methods import inprocess
from ipfvr.methods.base import Case, low_frames, write_frames
from ipfvr.methods.catalogue import list_methods, make_method
from ipfvr.methods.inprocess import base_config
from ipfvr.methods.pictures import NETWORKS
from ipfvr.metrics.inputs import find_clips
from ipfvr.video.writer import write_picture
from ipfvr.weights import registry

TINY = ("preset=tiny", "weights.attributes=", "weights.emotion=", "device=cpu")


def make_case(folder: Path, frames: int = 9, size: int = 32, seed: int = 0) -> Case:
    low = folder / "low"
    low.mkdir(parents=True)
    for index, frame in enumerate(texture(frames, 16, (150, 110, 90), 3)):
        write_picture(low / f"{index:06d}.png", frame)
    return Case("case", "anna", low, size, frames, 25, seed=seed)


def tiny(*options: str) -> Config:
    return load_config(overrides=[*TINY, *options])


def result(folder: Path) -> np.ndarray:
    return np.stack(list(find_clips(folder)[0]))


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(inprocess, "make_detector", lambda faces: StubDetector())
    write_picture(tmp_path / "anna.png", texture(1, 40, (200, 90, 60), 1)[0])
    return tmp_path / "anna.png"


def test_bicubic_is_the_clip_resized(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    report = make_method("bicubic", tiny()).restore(case, tmp_path / "out")
    wanted = np.stack([resize_frame(frame, 32, 32) for frame in low_frames(case)])
    assert (result(tmp_path / "out") == wanted).all()
    assert (report.frames, report.notes) == (9, ())


def test_ours_depends_on_seed_and_reference_and_keeps_its_networks(tmp_path: Path, reference: Path) -> None:
    case, method = make_case(tmp_path), make_method("ipfvr", tiny())
    assert method.missing() is None
    first = method.restore(case, tmp_path / "a")
    networks = method._restorer.networks.denoiser
    method.restore(replace(case, seed=1), tmp_path / "b")
    method.restore(case, tmp_path / "c")
    assert method._restorer.networks.denoiser is networks
    a, b, c = (result(tmp_path / name) for name in "abc")
    assert a.shape == (9, 32, 32, 3)
    assert (a == c).all()
    assert (a != b).any()
    assert first.command.endswith("seed=0")
    noted = method.restore(replace(case, references=(reference,)), tmp_path / "d").notes
    assert "weights.adapter is empty, so the network does not see the reference" in noted


def test_the_prompt_is_the_cases_alone(tmp_path: Path) -> None:
    case, method = make_case(tmp_path), make_method("ipfvr", tiny())
    (tmp_path / "prompt.yaml").write_text("text: an old man\n")
    low = np.stack(list(low_frames(case)))
    known = method.person(replace(case, prompt=tmp_path / "prompt.yaml"), low)
    assert "old man" in known.config.prompt.positive
    unknown = method.person(case, low)
    assert unknown.config.prompt == method.config.prompt
    assert not torch.equal(known.conditions.text, unknown.conditions.text)


def test_the_base_is_ours_without_what_the_paper_adds_and_never_looks_at_the_person(
    tmp_path: Path, reference: Path
) -> None:
    config = tiny("sampler.guider=multi_stream", "prompt.quality=sharp", "prompt.positive=a video")
    base = base_config(config)
    before, after = config_to_dict(config), config_to_dict(base)
    changed = {
        f"{section}.{key}"
        for section, values in before.items()
        if isinstance(values, dict)
        for key in values
        if values[key] != after[section][key]
    }
    assert changed == {
        *("prompt.describe", "prompt.positive", "sampler.guider"),
        *("long_video.blending", "long_video.noise_sharing", "video.overlap"),
    }
    assert (base.prompt.positive, base.sampler.guider) == ("a video, sharp", "classifier_free")
    assert base_config(tiny("sampler.guider=none")).sampler.guider == "none"

    case, method = make_case(tmp_path), make_method("venhancer", tiny("sampler.steps=1"))
    method.restore(case, tmp_path / "a")
    (tmp_path / "prompt.yaml").write_text("text: an old man\n")
    known = replace(case, references=(reference,), prompt=tmp_path / "prompt.yaml", lora=tmp_path / "no such lora")
    method.restore(known, tmp_path / "b")
    assert (result(tmp_path / "a") == result(tmp_path / "b")).all()


def test_a_square_picture_is_an_aligned_crop_where_its_face_lies_on_the_template() -> None:
    picture = texture(1, 64, (150, 110, 90), 2)[0]

    class Blind:
        def detect(self, image: np.ndarray) -> Sequence:
            return []

    whole = resize_frame(picture, 32, 32)
    assert (aligned_reference(picture, StubDetector(), 32, Path("a")) == whole).all()
    assert (aligned_reference(picture, Blind(), 32, Path("a")) == whole).all()
    middle = aligned_reference(picture, StubDetector(share=0.5), 32, Path("a"))
    assert np.abs(middle.astype(int) - picture[16:48, 16:48]).mean() < np.abs(middle.astype(int) - whole).mean() / 4
    with pytest.raises(UserError, match="no face"):
        aligned_reference(picture[:50], Blind(), 32, Path("a"))


def test_every_row_says_who_it_is_and_an_unknown_one_names_the_nearest() -> None:
    config = tiny()
    for name in list_methods():
        row = make_method(name, config)
        assert row.name == name
        assert all((row.title, row.licence, row.family))
    with pytest.raises(UserError, match="the nearest is 'codeformer'"):
        make_method("codefromer", config)
    with pytest.raises(UserError, match=r"methods.kep: there is no method 'kep'; the nearest is 'keep'"):
        make_method("bicubic", tiny("methods.kep.folder=/a"))
    with pytest.raises(UserError, match=r"unknown key 'methods.keep.foldr'; .* 'methods.NAME.folder'"):
        tiny("methods.keep.foldr=/a")
    with pytest.raises(UserError, match=r"write methods.keep.<option>=value"):
        tiny("methods.keep=/a")


def test_weights_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(registry.VARIABLE, str(tmp_path))
    reason = make_method("ipfvr", load_config(overrides=["preset=full"])).missing()
    assert "weights 'i2vgen-vae' are missing" in reason
    with pytest.raises(UserError, match="needs 64"):
        make_method("ipfvr", tiny()).restore(make_case(tmp_path, size=64), tmp_path / "out")


# Networks by spandrel


class Shift(torch.nn.Module):
    """Stands for a restorer of [-1, 1] pictures of 512 pixels: makes them brighter by a quarter of the range."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, float]] = []

    def forward(self, x: torch.Tensor, weight: float = 0.0) -> tuple[torch.Tensor, None]:
        assert x.shape[1:] == (3, 512, 512)
        assert x.is_contiguous(), "GFPGAN flattens by view"
        self.seen.append((float(x.min()), weight))
        return x + 0.5, None


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_picture_network_sees_512_pixels_in_its_own_range(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, installed = Shift(), []
    spandrel = types.ModuleType("spandrel")
    loader = types.SimpleNamespace(load_from_file=lambda path: types.SimpleNamespace(model=network))
    spandrel.ModelLoader = lambda device: loader
    extra = types.ModuleType("spandrel_extra_arches")
    extra.install = lambda ignore_duplicates: installed.append(True)
    for module in (spandrel, extra):
        module.__spec__ = types.SimpleNamespace()
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv(registry.VARIABLE, str(tmp_path / "weights"))
    method = make_method(name, tiny())
    assert "are missing" in method.missing()
    (tmp_path / "weights").mkdir()
    entry = registry.ENTRIES[NETWORKS[name].entry]
    (tmp_path / "weights" / entry.path).write_bytes(b"weights")
    case = make_case(tmp_path, frames=5)
    report = method.restore(case, tmp_path / "out")
    bicubic = np.stack([resize_frame(frame, 32, 32) for frame in low_frames(case)]).astype(int)
    assert np.abs(result(tmp_path / "out") - np.minimum(bicubic + 64, 255)).mean() < 2
    assert min(low for low, _ in network.seen) < 0
    assert {weight for _, weight in network.seen} == {0.5 if name == "codeformer_spandrel" else 0.0}
    assert bool(installed) == (name == "codeformer_spandrel")
    assert set(report.weights) == {entry.name}


def test_without_spandrel_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert make_method("gfpgan", tiny()).missing() == "GFPGAN needs spandrel: pip install spandrel"


# What is written


def test_a_result_is_whole_or_not_there(tmp_path: Path) -> None:
    case = make_case(tmp_path, frames=3)
    right = np.zeros((3, 32, 32, 3), np.uint8)
    write_frames(right, case, tmp_path / "out")
    for wrong, reason in ((right[:2], "2 frames came back, not 3"), (right[:, :16], "frame 0 came back 32 x 16")):
        with pytest.raises(UserError, match=reason):
            write_frames(wrong, case, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{i:06d}.png" for i in range(3)]
    with pytest.raises(IsADirectoryError), whole_folder(tmp_path / "new") as folder:
        folder.write_text("not a file")
    assert not [p for p in tmp_path.iterdir() if "new" in p.name]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="it is a file"), whole_folder(tmp_path / "file"):
        pass
