"""The configuration says what is wrong with a key, and where."""

from __future__ import annotations

from enum import StrEnum
from functools import reduce
from pathlib import Path

import pytest

from ipfvr.core.config import PRESETS, all_keys, config_to_dict, load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.options import Config
from ipfvr.core.readers import CLIP, LORA, read_by


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("sampler.stps=3", "sampler.steps"),
        ("stps=3", "sampler.steps"),
        ("vidoe.size=3", "video.size"),
        ("sampler.steps=many", "sampler.steps"),
        ("sampler=3", "section"),
        ("sampler.steps", "key=value"),
        ("preset=minni", "mini"),
        ("denoiser.multipliers=[a]", "denoiser.multipliers"),
    ],
)
def test_a_wrong_key_is_named_with_the_right_one(pair: str, says: str) -> None:
    with pytest.raises(UserError, match=says.replace(".", r"\.")):
        load_config(None, [pair])


CHOICES = {
    key: choices
    for key in all_keys()
    if (choices := type(reduce(getattr, key.split("."), Config()))) and issubclass(choices, StrEnum)
}


@pytest.mark.parametrize("key", CHOICES)
def test_a_choice_takes_its_names_and_nothing_else(key: str) -> None:
    names = [str(choice) for choice in CHOICES[key]]
    for name in names:
        config = load_config(None, ["preset=tiny", f"{key}={name}"])
        assert reduce(getattr, key.split("."), config) == CHOICES[key](name)
        assert reduce(dict.__getitem__, key.split("."), config_to_dict(config)) == name
    with pytest.raises(UserError) as refused:
        load_config(None, [f"{key}={names[0]}x"])
    told = f"command line: {key} is '{names[0]}x'; the nearest valid one is '{names[0]}', all are {', '.join(names)}"
    assert str(refused.value) == told


def test_layers_override_each_other(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("preset: tiny\nsampler: {steps: 5}\n")
    assert load_config(file).sampler.steps == 5
    assert load_config(file, ["sampler.steps=7"]).sampler.steps == 7
    assert load_config(file).video.size == load_config(None, ["preset=tiny"]).video.size
    assert load_config(file, ["preset=mini"]).preset == "mini"


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [\n"])
def test_a_file_that_is_no_configuration(tmp_path: Path, content: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        load_config(file)


@pytest.mark.parametrize("preset", sorted(p.stem for p in PRESETS.glob("*.yaml")))
def test_presets_load_and_round_trip(preset: str) -> None:
    config = load_config(None, [f"preset={preset}"])
    assert isinstance(config, Config)
    assert config_to_dict(config)["preset"] == preset


def test_every_key_can_be_given_on_the_command_line() -> None:
    flat = config_to_dict(load_config(None, ["preset=tiny"]))
    for key in all_keys():
        section, _, name = key.rpartition(".")
        value = flat[section][name] if section else flat[key]
        if isinstance(value, int | float) and key != "preset":
            load_config(None, ["preset=tiny", f"{key}={value}"])


def test_a_verb_ends_with_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str] | None) -> None:
        raise UserError("what,\n where")

    assert run_verb(main) == 2
    assert capsys.readouterr().err == "error: what, where\n"


def test_an_option_says_itself_who_may_do_without_it() -> None:
    """What is read by nobody of a kind is left out of what its results are kept by; everything else is in."""
    config = load_config(None, ["preset=tiny"])
    clip, lora = read_by(CLIP, config), read_by(LORA, config)
    assert "crf" not in clip["video"]
    assert {"size", "clip_frames"} <= set(clip["video"])
    assert "lora" not in clip
    # The degraded reference of Eq. 12 and the copies that a LoRA learns from are blurred by it.
    assert clip["degradation"] == lora["degradation"] == {"scale_sigma": True}
    assert "steps" not in lora["sampler"]
    assert lora["sampler"]["start_step"] == config.sampler.start_step
    assert "root" not in lora["data"]
    whole = config_to_dict(config)
    assert all(whole[key] == value for key, value in read_by("nobody", config).items())
    assert set(read_by("nobody", config)) == set(whole)
