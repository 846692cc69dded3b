"""The verb fit: its help, its dry run, what it refuses."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ipfvr.core.config import all_keys, config_to_dict, load_config
from ipfvr.core.errors import UserError
from ipfvr.core.option_list import option_list
from ipfvr.fit import main
from ipfvr.training.run import MODULES, make_training, trainer_options


def test_the_help_has_every_option_of_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for key in all_keys():
        if key.partition(".")[0] in ("data", "optimizer", "loss", "polish", "lora", "reward", "train"):
            assert f"\n  {key}=" in text
    assert "decay" in text
    assert max(map(len, text.splitlines())) <= 118


def test_what_an_option_is_stands_beside_it_or_above_it() -> None:
    lines = option_list(["data", "sampler"]).splitlines()
    beside = next(line for line in lines if line.startswith("  data.zoom="))
    assert beside.split(maxsplit=1) == [
        "data.zoom=0.05",
        "random zoom, shift and turn of a crop, as shares of its side",
    ]
    above = next(line for line in lines if line.startswith("  data.levels="))
    assert "Levels of Eq. 13" in above
    assert "data.levels=[heavy,light] " in above  # as one writes it


def test_a_dry_run_prints_a_configuration_that_is_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, pairs = "experiments/lora.yaml", ["data.identity=anna", "optimizer.steps=7"]
    main(["--config", file, "--dry-run", *pairs])
    (tmp_path / "whole.yaml").write_text(capsys.readouterr().out)
    assert OmegaConf.load(tmp_path / "whole.yaml").optimizer.steps == 7
    again = load_config(tmp_path / "whole.yaml", [])
    assert config_to_dict(again) == config_to_dict(load_config(file, pairs))


def test_every_training_of_the_table_can_be_imported() -> None:
    for module, function in MODULES.values():
        assert callable(getattr(importlib.import_module(f"ipfvr.training.{module}"), function))
    with pytest.raises(UserError, match=r"train\.module is 'loar'; the nearest valid one is 'lora'"):
        make_training(load_config(None, ["train.module=loar"]))


def test_options_of_the_trainer_pass_through() -> None:
    config = load_config(
        None, ["trainer.accumulate_grad_batches=4", "trainer.strategy=ddp", "trainer.fast_dev_run=true"]
    )
    assert trainer_options(config) == {"accumulate_grad_batches": 4, "strategy": "ddp", "fast_dev_run": True}
    with pytest.raises(UserError, match=r"no option 'stratgy'; the nearest is trainer\.strategy"):
        trainer_options(load_config(None, ["trainer.stratgy=ddp"]))
    assert trainer_options(load_config(None, ["trainer.callbacks=[EarlyStopping]"])) == {"callbacks": ["EarlyStopping"]}
    with pytest.raises(UserError, match=r"trainer\.max_time is set by train\.minutes"):
        trainer_options(load_config(None, ["trainer.max_time=1"]))
