"""A training from its configuration: made, taken up where it stopped, logged, its weights written."""

from __future__ import annotations

import importlib
import inspect
import warnings
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

from ipfvr.core.config import config_to_dict
from ipfvr.core.devices import multiplies_bf16
from ipfvr.core.errors import UserError
from ipfvr.core.files import write_json
from ipfvr.core.options import Config
from ipfvr.training.callbacks import FreshTimer, SaveRegularly
from ipfvr.training.common import Trained

# train.module: the module of this package, and its function that makes the training and its data of a configuration.
MODULES = {
    "vae": ("vae", "make_codec_training"),
    "clip": ("clip", "make_clip_training"),
    "base": ("base", "make_base_training"),
    "adapter": ("adapter", "make_adapter_training"),
    "joint": ("joint", "make_joint_training"),
    "lora": ("lora", "make_lora_training"),
    "landmarks": ("landmarks", "make_landmark_training"),
    "attributes": ("attributes", "make_attribute_training"),
    "recogniser": ("recogniser", "make_recogniser_training"),
}


def fit(config: Config, restart: bool = False) -> Path:
    """Train what ``config.train.module`` names.

    Args:
        config: see :class:`ipfvr.core.training_options.TrainConfig`.
        restart: begin anew though there is a checkpoint.

    Returns:
        The folder with the weights.

    Raises:
        UserError: an unknown module, data that are not there, an output that cannot be written.
    """
    harmless = "many workers|no `val_dataloader`|in eval mode at the start|not exist on disk|litlogger|LeafSpec"
    warnings.filterwarnings("ignore", message=f".*({harmless}).*")
    output = Path(config.train.output)
    last = output / "checkpoints" / "last.ckpt"
    pl.seed_everything(config.seed, verbose=False)
    torch.set_flush_denormal(True)  # moments that fade to denormal numbers would slow a processor many times
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it; a processor has not
    module, data = make_training(config)
    resume = last.is_file() and not restart
    if resume:
        step = torch.load(last, map_location="cpu", weights_only=False)["global_step"]
        data.start = step // module.steps_a_batch
        pl.seed_everything(config.seed + step, verbose=False)  # no noise is drawn twice
        print(f"going on from step {step} of {last}")
    write_json(output / "config.json", config_to_dict(config))
    saver = SaveRegularly(output, config.train.checkpoint_minutes)
    callbacks = [saver]
    if config.train.minutes:
        callbacks.append(FreshTimer(timedelta(minutes=config.train.minutes), interval="step"))
    own = dict(
        max_steps=config.optimizer.steps * module.steps_a_batch,
        accelerator=config.train.accelerator,
        devices=config.train.devices,
        precision=precision(config),
        gradient_clip_val=config.optimizer.clip_norm if module.automatic_optimization else None,
        logger=make_loggers(config, data.start),
        callbacks=callbacks,
        enable_checkpointing=False,
        log_every_n_steps=config.train.log_every,
        val_check_interval=config.train.validate_every,
        limit_val_batches=config.train.validation_batches,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
    trainer = pl.Trainer(**{**own, **trainer_options(config)})
    trainer.fit(module, data, ckpt_path=last if resume else None, weights_only=False)
    if not saver.files:  # optimizer.steps=0 writes the start itself
        saver.save(trainer, module)
    print("weights: " + ", ".join(str(file) for file in saver.files))
    return output / "weights"


# What the program sets by options of its own, or must set as it does.
_SET = {"max_steps": "optimizer.steps", "gradient_clip_val": "optimizer.clip_norm", "max_time": "train.minutes"}
_SET |= {name: f"train.{name}" for name in ("accelerator", "devices", "precision")}
_SET |= {"callbacks": "", "logger": "train.wandb", "enable_checkpointing": "train.checkpoint_minutes"}


def trainer_options(config: Config) -> dict[str, Any]:
    """``trainer.<option>``, which goes to Lightning's ``Trainer`` as it is, such as ``trainer.strategy=ddp``.

    Raises:
        UserError: an option that the ``Trainer`` has not, or that another option of this project sets.
    """
    known = [name for name in inspect.signature(pl.Trainer).parameters if name not in _SET]
    for name in config.trainer:
        if name in _SET:
            raise UserError(f"trainer.{name} is set by {_SET[name] or 'the program itself'}")
        if name not in known:
            near = get_close_matches(name, known, 1, 0)[0]
            raise UserError(f"Lightning's Trainer has no option '{name}'; the nearest is trainer.{near}")
    return dict(config.trainer)


def make_training(config: Config) -> tuple[Trained, pl.LightningDataModule]:
    """What ``train.module`` names, and its data.

    Raises:
        UserError: an unknown name.
    """
    name = config.train.module
    if name not in MODULES:
        raise UserError(f"train.module '{name}' is unknown: use {', '.join(MODULES)}")
    module, function = MODULES[name]
    return getattr(importlib.import_module(f"ipfvr.training.{module}"), function)(config)


def precision(config: Config) -> str:
    """Lightning's name of ``train.precision``; ``auto`` is bf16 where the device computes in it.

    Raises:
        UserError: an unknown name.
    """
    name = config.train.precision
    if name == "auto":
        gpu = torch.cuda.is_available() and config.train.accelerator in ("auto", "gpu", "cuda")
        name = "bf16" if multiplies_bf16(torch.device("cuda" if gpu else "cpu")) else "fp32"
    if name not in ("bf16", "fp32"):
        raise UserError(f"train.precision '{name}' is unknown: use auto, bf16 or fp32")
    return {"bf16": "bf16-mixed", "fp32": "32-true"}[name]


def make_loggers(config: Config, start: int) -> list:
    """CSV always, a folder each time a training is taken up; W&B offline or online where it is installed and wanted."""
    loggers: list = [CSVLogger(config.train.output, name="log", version=f"from_{start}")]
    if config.train.wandb != "disabled":
        try:
            from pytorch_lightning.loggers import WandbLogger  # here: the package may be missing

            Path(config.train.output).mkdir(parents=True, exist_ok=True)
            loggers.append(
                WandbLogger(
                    project=config.train.wandb_project,
                    entity=config.train.wandb_entity or None,
                    name=Path(config.train.output).name,
                    save_dir=config.train.output,
                    offline=config.train.wandb == "offline",
                    config=config_to_dict(config),
                )
            )
        except ModuleNotFoundError:
            print("W&B is not installed, logging to CSV only: pip install wandb")
    return loggers
