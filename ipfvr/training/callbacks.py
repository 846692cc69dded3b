"""Callbacks of every training: checkpoints by the clock with the weights beside them, and an end by the clock."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer


class SaveRegularly(pl.Callback):
    """Writes ``checkpoints/last.ckpt`` and the averaged weights every few minutes, at the end and on Ctrl-C.

    A checkpoint is written under another name first, so that a kill while it is written costs nothing.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder, self.minutes = folder, minutes
        self.path = folder / "checkpoints" / "last.ckpt"
        self.files: list[Path] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: object) -> None:
        """Save when it is time; with several processes the first one's clock rules."""
        due = time.monotonic() - self.saved > 60 * self.minutes
        if trainer.strategy.broadcast(due) if trainer.world_size > 1 else due:
            self.save(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save the end."""
        self.save(trainer, module)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Save what an interruption would lose."""
        if isinstance(exception, KeyboardInterrupt):
            self.save(trainer, module)

    def save(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Checkpoint and weights."""
        partial = self.path.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.path)
            self.files = module.export(self.folder / "weights")
        self.saved = time.monotonic()


class FreshTimer(Timer):
    """Lightning's timer, which ends a training by wall clock; after a resume the time counts anew."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the same command again means so many minutes more."""
        return {}
