"""The base class of all trainings: optimizer, learning rate, moving average, metadata of the weights."""

from __future__ import annotations

import copy
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor, nn

from ipfvr.core.config import config_to_dict
from ipfvr.core.options import Config
from ipfvr.core.provenance import versions
from ipfvr.core.training_options import OptimizerConfig
from ipfvr.metrics.fidelity import psnr

_APART = 1_000_003  # between the seeds of two processes: more than a training has steps, which seed a resume


class Trained(pl.LightningModule):
    """A training of one network, ``self.network``, with AdamW, warm-up, cosine decay and a moving average.

    Subclasses set ``self.network`` and compute the losses; :meth:`export` writes the average for the package.

    The moving average is this class's own. Lightning's ``EMAWeightAveraging`` copies the whole module and averages it
    at every step, frozen networks included: for mini's adapter 24.5 million parameters, of which 1.4 million are
    trained. It also puts the average in the network's place before the last checkpoint is written, from which a resumed
    training would then go on.
    """

    network: nn.Module
    steps_a_batch = 1  # optimizer steps that Lightning counts in one batch

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.minutes = 0.0  # of training so far, those before a resume included; counted where train.minutes is given

    def on_train_start(self) -> None:
        """Give each process noise of its own: all have been seeded alike, and each sees other data."""
        if self.global_rank:
            torch.manual_seed(torch.initial_seed() + _APART * self.global_rank)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Read Lightning's timer. All processes read the first one's, since they must have one learning rate."""
        if self.config.train.minutes:
            timer = next(callback for callback in self.trainer.callbacks if isinstance(callback, Timer))
            self.minutes = self.trainer.strategy.broadcast(timer.time_elapsed() / 60)

    def done(self) -> float:
        """Return how much of the training is done, 0 to 1, by steps or by ``train.minutes``, whichever is more."""
        share = self.global_step / self.steps_a_batch / max(1, self.config.optimizer.steps)
        if self.config.train.minutes:
            share = max(share, self.minutes / self.config.train.minutes)
        return min(1.0, share)

    def average(self) -> None:
        """Start the moving average at the network's present weights; call once the network is set."""
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)

    def configure_optimizers(self) -> dict:
        """Make AdamW with linear warm-up and cosine decay to ``final_lr``."""
        settings = self.config.optimizer
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, self.done(), settings))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def on_train_batch_end(self, *_: object) -> None:
        """Update the average with decay min(ema, (1 + n) / (10 + n)) at step n, so that it forgets early weights."""
        decay = min(self.config.optimizer.ema, (1 + self.global_step) / (10 + self.global_step))
        pairs = [
            (a, p) for a, p in zip(self.ema.parameters(), self.network.parameters(), strict=True) if p.requires_grad
        ]
        torch._foreach_lerp_([a for a, _ in pairs], [p.data for _, p in pairs], 1 - decay)
        # Running statistics of batch norms are averages already.
        for kept, buffer in zip(self.ema.buffers(), self.network.buffers(), strict=True):
            kept.copy_(buffer)

    def metadata(self) -> dict[str, str]:
        """Return what made the weights, as strings for the safetensors header."""
        return {
            "config": json.dumps(config_to_dict(self.config)),
            "versions": json.dumps(versions()),
            "step": str(self.global_step),
            "seed": str(self.config.seed),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def export(self, folder: Path) -> list[Path]:
        """Write the averaged weights in the package's format to ``folder`` and return the files."""
        raise NotImplementedError


def learning_rate(step: int, done: float, settings: OptimizerConfig) -> float:
    """Return the share of ``lr`` at a step: linear over ``warmup`` steps, then a cosine that ends at ``final_lr``.

    Args:
        step: optimizer steps so far.
        done: how much of the training is done, 0 to 1.
        settings: ``warmup`` and ``final_lr`` are used.
    """
    rise = min(1.0, (step + 1) / max(1, settings.warmup))
    return rise * (settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * done)))


def mean_psnr(pixels: Tensor, real: Tensor) -> Tensor:
    """Return the mean PSNR in dB of frames (N, 3, H, W), clipped to [-1, 1], against real ones in [-1, 1]."""
    return psnr(pixels.clamp(-1, 1) / 2 + 0.5, real / 2 + 0.5).mean().float()
