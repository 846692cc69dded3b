"""Callbacks of every training: checkpoints, and the weights that the package loads beside each of them."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from ipfvr.core.files import atomic

LAST, BEST = "last", "best"  # names of the checkpoints


class RegularCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint by the clock, ``last.ckpt``, which is also written at the end and when a training stops.

    It adds three things to ``ModelCheckpoint(train_time_interval=..., save_on_exception=True)`` of Lightning 2.6:

    - Lightning does not look at the clock under manual optimization (``train.module`` vae and joint).
    - Lightning does not save the last step of a training that ends well.
    - Lightning saves after any exception. A training that fails before its first step would then overwrite a good
      checkpoint, and one process of several that fails alone would wait for the others for ever. So this callback
      saves after an exception only once the training has begun, and with several processes only after Ctrl-C or
      SIGTERM, which reach all of them.

    Args:
        folder: where the checkpoint lies.
        minutes: time between two checkpoints.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        interval = timedelta(minutes=minutes)
        super().__init__(
            folder, LAST, train_time_interval=interval, save_on_exception=True, enable_version_counter=False
        )
        self.path, self.seconds = folder / f"{LAST}{self.FILE_EXTENSION}", interval.total_seconds()
        self.saved_at: float | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, module)
        self.saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time; with several processes the first one's clock decides."""
        if module.automatic_optimization:
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        elif trainer.strategy.broadcast(time.monotonic() - self.saved_at >= self.seconds):
            trainer.save_checkpoint(self.path)
            self.saved_at = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save the last step, unless ``trainer.fast_dev_run`` only tries the code out."""
        if not trainer.fast_dev_run:
            trainer.save_checkpoint(self.path)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Save what the training would lose, see the class."""
        reaches_all = trainer.world_size == 1 or isinstance(exception, KeyboardInterrupt | SIGTERMException)
        if self.saved_at is not None and reaches_all:
            super().on_exception(trainer, module, exception)


def best_checkpoint(folder: Path, metric: str, mode: str) -> ModelCheckpoint:
    """Lightning's checkpoint of the best validation so far, ``best.ckpt``.

    Args:
        folder: where the checkpoint lies.
        metric: a name that validation logs, such as ``val/loss``.
        mode: min or max, which values are better.
    """
    return ModelCheckpoint(folder, BEST, monitor=metric, mode=mode, enable_version_counter=False)


class ExportWeights(pl.Callback):
    """Writes the weights in the package's format whenever a checkpoint is written.

    Args:
        folder: where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Export; one process of several is enough."""
        if trainer.is_global_zero:
            module.export(self.folder)


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there.

    Lightning writes a checkpoint to the system's temporary folder and moves it. Where that folder is on another disk
    the move is a copy, and a kill leaves half a file under the checkpoint's name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write beside ``path`` and rename.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        with atomic(path) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)
