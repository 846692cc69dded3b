"""Runs a training from its configuration: resumes it, logs it, and writes its weights."""

from __future__ import annotations

import importlib
import inspect
import logging
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ipfvr.core.choices import Trainings, TrainingTypes, WandbModes
from ipfvr.core.config import config_to_dict
from ipfvr.core.devices import multiplies_bf16
from ipfvr.core.errors import UserError
from ipfvr.core.files import write_json
from ipfvr.core.messages import quiet_lightning
from ipfvr.core.options import Config
from ipfvr.training.callbacks import BEST, LAST, ExportWeights, RegularCheckpoint, WholeCheckpoints, best_checkpoint
from ipfvr.training.common import Trained
from ipfvr.training.extensions import extensions

tell = rank_zero_only(logging.getLogger(__name__).info)  # of several processes one speaks

# By train.module: the module of this package, and its function that makes the training and its data.
MODULES = {
    Trainings.vae: ("vae", "make_codec_training"),
    Trainings.clip: ("clip", "make_clip_training"),
    Trainings.base: ("base", "make_base_training"),
    Trainings.adapter: ("adapter", "make_adapter_training"),
    Trainings.joint: ("joint", "make_joint_training"),
    Trainings.lora: ("lora", "make_lora_training"),
    Trainings.landmarks: ("landmarks", "make_landmark_training"),
    Trainings.attributes: ("attributes", "make_attribute_training"),
    Trainings.recogniser: ("recogniser", "make_recogniser_training"),
}


def fit(config: Config, restart: bool = False) -> Path:
    """Train what ``config.train.module`` names.

    Args:
        config: see :class:`ipfvr.core.training_options.TrainConfig`.
        restart: begin anew though there is a checkpoint.

    Returns:
        The folder with the weights.

    Raises:
        UserError: an unknown module, data that are not there, options that do not fit together, an output that cannot
            be written.
        KeyboardInterrupt: Ctrl-C; a checkpoint is written.
    """
    output = Path(config.train.output)
    pl.seed_everything(config.seed, verbose=False)
    torch.set_flush_denormal(True)  # a CPU is many times slower with the denormal numbers of fading moments
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs that have it
    module, data = make_training(config)
    start = None if restart else find_checkpoint(config)
    step = 0
    if start is not None:
        step = torch.load(start, map_location="cpu", weights_only=False, mmap=True)["global_step"]
        data.start = step // module.steps_a_batch
        pl.seed_everything(config.seed + step, verbose=False)  # no noise is drawn twice
        tell("going on from step %d of %s", step, start)
    write_json(output / "config.json", config_to_dict(config))
    with quiet_lightning():
        trainer = make_trainer(config, module, data.start)
        try:
            trainer.fit(module, data, ckpt_path=start, weights_only=False)
            if trainer.max_steps <= step:  # optimizer.steps=0 writes the start itself
                trainer.save_checkpoint(checkpoints(config) / f"{LAST}.ckpt")
            if config.train.monitor and trainer.is_global_zero:
                export_best(config, module)
        except MisconfigurationException as error:
            raise UserError(f"Lightning: {str(error).splitlines()[0]}") from None
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt("stopped; the same command goes on from here") from None
    tell("weights: %s", ", ".join(str(file) for file in sorted((output / "weights").glob("*"))))
    return output / "weights"


def checkpoints(config: Config) -> Path:
    """Return the folder of a training's checkpoints."""
    return Path(config.train.output) / "checkpoints"


def find_checkpoint(config: Config) -> Path | None:
    """Return the checkpoint to resume from, ``train.ckpt_path`` or the output's own last one, or None.

    Raises:
        UserError: ``train.ckpt_path`` is not a file.
    """
    given = config.train.ckpt_path
    if given and not Path(given).is_file():
        raise UserError(f"train.ckpt_path={given} is not a file; leave it out to go on from the output's own last one")
    path = Path(given) if given else checkpoints(config) / f"{LAST}.ckpt"
    return path if path.is_file() else None


def export_best(config: Config, module: Trained) -> None:
    """Write the weights of the best validation to ``<train.output>/best``.

    Raises:
        UserError: validation never logged ``train.monitor``.
    """
    path, folder = checkpoints(config) / f"{BEST}.ckpt", Path(config.train.output) / "best"
    if not path.is_file():
        raise UserError(
            f"no validation logged train.monitor={config.train.monitor}; the names are the columns of "
            f"{config.train.output}/log/*/metrics.csv, and train.validate_every says how often they are computed"
        )
    content = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
    module.load_state_dict(content["state_dict"], strict=module.strict_loading)
    module.export(folder)
    tell("best weights, of step %d: %s", content["global_step"], folder)


def make_trainer(config: Config, module: Trained, start: int) -> pl.Trainer:
    """Make Lightning's ``Trainer`` from the options of ``train``, ``optimizer`` and ``trainer``.

    Args:
        config: of the training.
        module: the training.
        start: number of batches already seen.

    Raises:
        UserError: as :func:`trainer_options` and :func:`~ipfvr.training.extensions.extensions`; options that Lightning
            refuses.
    """
    train, folder = config.train, checkpoints(config)
    given = trainer_options(config)
    callbacks = [RegularCheckpoint(folder, train.checkpoint_minutes), ExportWeights(Path(train.output) / "weights")]
    if train.monitor:
        callbacks.append(best_checkpoint(folder, train.monitor, str(train.monitor_mode)))
    own = dict(
        max_steps=config.optimizer.steps * module.steps_a_batch,
        max_time=timedelta(minutes=train.minutes) if train.minutes else None,
        accelerator=train.accelerator,
        devices=train.devices,
        precision=precision(config),
        gradient_clip_val=config.optimizer.clip_norm if module.automatic_optimization else None,
        logger=[*make_loggers(config, start), *extensions("logger", given.pop("logger", None))],
        callbacks=[*callbacks, *extensions("callbacks", given.pop("callbacks", None))],
        plugins=[WholeCheckpoints()],
        log_every_n_steps=train.log_every,
        val_check_interval=train.validate_every,
        limit_val_batches=train.validation_batches,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
    try:
        return pl.Trainer(**{**own, **given})
    except (MisconfigurationException, ValueError, TypeError) as error:  # options of ours are checked before
        raise UserError(f"Lightning: {str(error).splitlines()[0]}") from None


# Arguments of the Trainer that options of this project set.
_SET = {"max_steps": "optimizer.steps", "gradient_clip_val": "optimizer.clip_norm", "max_time": "train.minutes"}
_SET |= {name: f"train.{name}" for name in ("accelerator", "devices", "precision")}
_SET |= {"enable_checkpointing": "train.checkpoint_minutes"}


def trainer_options(config: Config) -> dict[str, Any]:
    """Check and return the options ``trainer.<option>`` for Lightning's ``Trainer``, such as ``trainer.strategy=ddp``.

    ``trainer.callbacks`` and ``trainer.logger`` are added to the project's own, see :mod:`ipfvr.training.extensions`;
    the others go as they are.

    Raises:
        UserError: an option that the ``Trainer`` does not have, or that another option of this project sets.
    """
    known = [name for name in inspect.signature(pl.Trainer).parameters if name not in _SET]
    for name in config.trainer:
        if name in _SET:
            raise UserError(f"trainer.{name} is set by {_SET[name]}")
        if name not in known:
            near = get_close_matches(name, known, 1, 0)[0]
            raise UserError(f"Lightning's Trainer has no option '{name}'; the nearest is trainer.{near}")
    return dict(config.trainer)


def make_training(config: Config) -> tuple[Trained, pl.LightningDataModule]:
    """Make the training that ``train.module`` names, and its data.

    Raises:
        UserError: as the function of that training.
    """
    module, function = MODULES[config.train.module]
    return getattr(importlib.import_module(f"ipfvr.training.{module}"), function)(config)


def precision(config: Config) -> str:
    """Return Lightning's name of ``train.precision``; ``auto`` is bf16 if the device multiplies in it."""
    name = config.train.precision
    if name == TrainingTypes.auto:
        gpu = torch.cuda.is_available() and config.train.accelerator in ("auto", "gpu", "cuda")
        bf16 = multiplies_bf16(torch.device("cuda" if gpu else "cpu"))
    else:
        bf16 = name == TrainingTypes.bf16
    return "bf16-mixed" if bf16 else "32-true"


def make_loggers(config: Config, start: int) -> list:
    """Make the loggers: a CSV table for each start of the training, and W&B unless ``train.wandb=disabled``."""
    output = Path(config.train.output)
    loggers: list = [CSVLogger(output, name="log", version=f"from_{start}")]
    if config.train.wandb != WandbModes.disabled:
        output.mkdir(parents=True, exist_ok=True)
        try:
            loggers.append(
                WandbLogger(
                    project=config.train.wandb_project,
                    entity=config.train.wandb_entity or None,
                    name=output.name,
                    save_dir=output,
                    offline=config.train.wandb == WandbModes.offline,
                    config=config_to_dict(config),
                )
            )
        except ModuleNotFoundError:
            tell("W&B is not installed, so the log is a table only: pip install wandb")
    return loggers
