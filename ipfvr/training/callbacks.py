"""Callbacks of every training: the weights beside each checkpoint, and an end by the clock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class ExportWeights(pl.Callback):
    """Writes the averaged weights in the package's format whenever a checkpoint is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Export beside the checkpoint."""
        module.export(self.folder)


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
