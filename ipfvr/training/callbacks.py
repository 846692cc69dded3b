"""Callbacks of every training: checkpoints by the clock with the weights beside them, and an end by the clock."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytorch_lightning as pl


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


class StopAfter(pl.Callback):
    """Ends a training after so many minutes of wall clock; 0: never. The time counts anew after a resume."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        self.start = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Look at the clock."""
        if self.minutes and time.monotonic() - self.start > 60 * self.minutes:
            trainer.should_stop = True
