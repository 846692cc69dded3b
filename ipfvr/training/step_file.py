"""A training that another process waits for says how far it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ipfvr.core.progress import end_progress, write_progress


class StepFile(pl.Callback):
    """Writes step and time left to ``train.output`` (:mod:`ipfvr.core.progress`), every so many seconds.

    Args:
        every: seconds.
    """

    def __init__(self, every: float = 2.0) -> None:
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        self.began, self.first, self.written = time.monotonic(), trainer.global_step, -self.every

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Write, when it is time."""
        now, done = time.monotonic(), trainer.global_step - self.first
        if trainer.is_global_zero and now - self.written >= self.every:
            left = (trainer.max_steps - trainer.global_step) * (now - self.began) / done if done else None
            write_progress(Path(module.config.train.output), trainer.global_step, trainer.max_steps, left)
            self.written = now

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Say nothing more."""
        end_progress(Path(module.config.train.output))
