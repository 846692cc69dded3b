"""A clip before and after a LoRA: the strip of frames of the paper's Figure 8, and r_f of each of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from ipfvr.core.files import atomic, write_json
from ipfvr.core.pixels import to_frames
from ipfvr.data.scenes import SceneDataset
from ipfvr.faces.recognise import embed_faces
from ipfvr.identity.reward import identity_reward
from ipfvr.metrics.identity import identity_drift
from ipfvr.models.networks import Networks
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.strips import strip
from ipfvr.video.writer import write_picture

if TYPE_CHECKING:
    from ipfvr.training.lora import LoraTraining

SHOWN = 6  # frames of the strip


class LoraReport(pl.Callback):
    """Restores one clip without and with the adapters when the training ends.

    The clip is the first one of the first test scene, of the first training scene where there is none, degraded at
    ``degradation.level``. Writes ``strip.png``, ``rewards.csv`` (r_f of every frame) and ``report.json`` (their mean,
    deviation and drift) to the folder, and the same to W&B.

    Args:
        folder: of the training's output.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, module: LoraTraining) -> None:
        """Restore, write, log."""
        if not trainer.is_global_zero:
            return
        person, config = module.person, module.config
        data = SceneDataset(person.test or person.train, person.identity, config)
        start = int(data.scenes[0].starts(config.video.clip_frames)[0])
        rng = np.random.default_rng(config.seed)
        item = data.window(0, start, config.degradation.level, rng, augment=False)
        module.network.eval()
        low = to_frames(item["low"])
        # As restore does it, the negative streams and all.
        restorer = Restorer(
            config, Networks.of_training(config, module.codec, module.text, module.network, module.prompt)
        )
        conditions = restorer.conditions([reference.face for reference in person.references])
        with module.network.unet.disable_adapter():
            before = restorer.restore(low, conditions)
        clips = {
            "low quality": low,
            "before": before,
            "after": restorer.restore(low, conditions),
            "truth": to_frames(item["pixels"]),
        }
        recogniser, reference = module.face_rewards.recogniser, module.face_rewards.reference.cpu()
        rewards = {
            name: identity_reward(embed_faces(frames, item["landmarks"].numpy(), recogniser), reference)
            for name, frames in clips.items()
        }
        report = {
            "scene": data.scenes[0].path.name,
            "trained_on_it": not person.test,
            "level": config.degradation.level,
            "recogniser": recogniser.name,
            "reference": [r.path.name for r in person.references],
            "clips": {name: summary(row) for name, row in rewards.items()},
        }
        picture = strip(clips, np.linspace(0, len(before) - 1, SHOWN).astype(int).tolist(), 128)
        write_report(self.folder, picture, rewards, report)
        log_report(trainer, picture, report)


def summary(rewards: Tensor) -> dict[str, float]:
    """Mean, deviation over the frames and drift of r_f (F,)."""
    values = {"r_f": rewards.mean(), "sigma": rewards.std(correction=0), "drift": identity_drift(rewards)}
    return {name: round(float(value), 5) for name, value in values.items()}


def write_report(folder: Path, picture: np.ndarray, rewards: dict[str, Tensor], report: dict[str, Any]) -> None:
    """Write the three files, see :class:`LoraReport`."""
    write_picture(folder / "strip.png", picture, 6)
    rows = zip(*(row.tolist() for row in rewards.values()), strict=True)
    with atomic(folder / "rewards.csv") as temporary:
        lines = ["frame," + ",".join(name.replace(" ", "_") for name in rewards)]
        lines += [f"{frame}," + ",".join(f"{value:.5f}" for value in row) for frame, row in enumerate(rows)]
        temporary.write_text("\n".join(lines) + "\n")
    write_json(folder / "report.json", report)


def log_report(trainer: pl.Trainer, picture: np.ndarray, report: dict[str, Any]) -> None:
    """Log the strip and the numbers to W&B if it is one of the loggers."""
    for logger in trainer.loggers:
        if type(logger).__name__ == "WandbLogger":
            logger.log_image("before and after", [picture])
            numbers = {f"{name}/{key}": v for name, row in report["clips"].items() for key, v in row.items()}
            logger.log_metrics(numbers)
