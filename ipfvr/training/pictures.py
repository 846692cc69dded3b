"""Trains a LoRA of one person on reference pictures alone (``restore --learn``), in less than a minute.

The paper's LoRA learns from scenes (:mod:`ipfvr.training.lora`), but most people who bring an old clip have a few
pictures only. Here each picture is a scene of one frame. The training shows degraded copies of it, with random warps
and colours (:mod:`ipfvr.training.copies`), and face recognisers compare the restored copies with the picture, as Eq. 5
does for a clip. The LoRA is kept in the cache folder under the hash of everything it depends on, and the next job takes
it from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ipfvr.conditioning.prompt_file import prompt_digest
from ipfvr.core.devices import choose_device, choose_dtype
from ipfvr.core.errors import UserError
from ipfvr.core.files import alone, check_writable, whole_folder
from ipfvr.core.folders import cache_folder
from ipfvr.core.hashes import digest, sha256
from ipfvr.core.messages import progress_bar, quiet_lightning
from ipfvr.core.options import Config, FacesConfig
from ipfvr.core.readers import LORA, read_by
from ipfvr.data.scenes import Person, load_picture
from ipfvr.faces.detect import make_detector
from ipfvr.faces.recognise import Recogniser, load_recogniser
from ipfvr.models.lora import CARD, base_record
from ipfvr.training.balance import Balance, Losses
from ipfvr.training.copies import Copies, draw_copies
from ipfvr.training.likeness import likeness_losses
from ipfvr.training.lora import LoraTraining, speaking_of
from ipfvr.weights.needs import WORDS, absent, detector_digests, needed_parts, weight_files
from ipfvr.weights.registry import locate

log = logging.getLogger(__name__)

_ZOOM = 0.03  # of a copy, as in experiments/lora.yaml
_WARMUP, _FINAL_LR = 5, 0.1
_JITTER = 0.01  # of the recognisers' crops, as in the joint training


class PictureLoraTraining(LoraTraining):
    """Moves the one-step estimate towards the person and otherwise keeps it near the base's estimate.

    Eq. 3 with a single picture would teach that picture: its light, its expression, and a blurred mean of all faces
    that fit. So the losses compare only vectors and maps of ``learn.recognisers`` with the truth, each with its share
    of the length of Eq. 3's gradient, and the squared error is taken against the base's estimate of the same copy.
    """

    copies: Copies

    def __init__(self, config: Config, person: Person, recogniser: Recogniser, words: dict[str, Any]) -> None:
        super().__init__(config, person, recogniser, words)
        self.judges = nn.ModuleList(load_recogniser(name) for name in config.learn.recognisers)
        self.balance = Balance()

    def on_train_start(self) -> None:
        """Draw the copies, in the precision of the training."""
        super().on_train_start()
        with self.trainer.precision_plugin.forward_context():
            self.copies = draw_copies(self)

    def training_step(self, numbers: Tensor, number: int) -> Tensor:
        """Compute the loss of the copies with these numbers."""
        copies = self.copies.pick(numbers)
        given = copies.given
        loss, restored = self.estimate(self.network, **given._asdict(), frozen=copies.frozen)
        points, drawn = copies.landmarks.cpu().numpy(), self.drawn(restored)
        rng = np.random.default_rng([self.config.seed, self.global_step])

        def losses(pixels: Tensor) -> Losses:
            polish = self.config.polish
            return likeness_losses(self.judges, pixels, copies.real, points, polish, _JITTER, rng, one_person=True)

        joined, values = self.balance.add(loss, drawn, copies.real, losses)
        # All copies are at one step, where Eq. 3 is this multiple of the squared error of the latents.
        units = (loss / (restored - given.z_hq).square().mean()).detach()
        kept = units * (restored - copies.base).square().mean()
        self.history.append({"step": self.global_step, **{f"loss/{k}": round(float(v), 5) for k, v in values.items()}})
        return joined - loss + kept

    def train_dataloader(self) -> DataLoader:
        """Batches of numbers of copies, in another order each time round."""
        learn = self.config.learn
        return DataLoader(range(learn.copies), learn.batch, shuffle=True, drop_last=True)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return no callbacks: there is no clip to show before and after."""
        return []

    def card(self) -> dict[str, Any]:
        """Return what made the adapters; ``reward`` describes the losses that take its place."""
        judges = {judge.name: judge.sha256 for judge in self.judges}
        return super().card() | {
            "reward": {"kind": "likeness to the pictures", **vars(self.config.learn)} | {"recognisers_sha256": judges}
        }


def learned_lora(config: Config, identity: str, pictures: Sequence[Path], choose: int = 0) -> Path:
    """Return the folder of the LoRA of these pictures, and train it first if it does not exist.

    Args:
        config: of the restoration; ``learn`` has the options of the training.
        identity: the person's name, for the card and the progress bar.
        pictures: any pictures of the person's face.
        choose: number of the face in each picture, counted from the left, from 1; 0 requires a single face.

    Returns:
        A folder for ``restore --lora``.

    Raises:
        UserError: a picture has no single clear face, weights are missing, options of ``learn`` do not fit together, or
            the cache folder is not writable.
    """
    if not 0 < config.learn.batch <= config.learn.copies:
        raise UserError(f"learn.batch is {config.learn.batch}: give 1 to learn.copies ({config.learn.copies})")
    folder = learned_folder(config, pictures, choose)
    if not is_learned(folder):
        try:
            check_writable(folder)
        except UserError:
            raise UserError(
                f"cannot keep what is learned in {folder.parent}: make it writable, name another cache folder with "
                "XDG_CACHE_HOME=FOLDER, or give --no-learn"
            ) from None
        with alone(folder):  # two films of one person, restored side by side
            if not is_learned(folder):
                _learn_into(folder, config, identity, pictures, choose)
    return folder


def _learn_into(folder: Path, config: Config, identity: str, pictures: Sequence[Path], choose: int) -> None:
    began = time.monotonic()
    with whole_folder(folder) as partial:
        learn(learning(config, identity), pictures, partial, choose)
    count = f"{len(pictures)} picture{'s' * (len(pictures) != 1)}"
    log.info("note: learnt %s from %s in %.0f s; kept in %s", _whose(identity), count, time.monotonic() - began, folder)


def learned_folder(config: Config, pictures: Sequence[Path], choose: int = 0) -> Path:
    """Return the folder of the LoRA of these pictures, which need not exist; its name hashes all that it depends on.

    The LoRA depends on the options that its training reads (:mod:`ipfvr.core.readers`) as :func:`learning` sets them,
    on ``learn``, the pictures, the words that somebody wrote for the person, and on the files of all networks, those of
    the detector and the recognisers included.

    Raises:
        UserError: a picture or a file of weights is missing.
    """
    training = learning(config, "")
    words = [part for part in WORDS if not absent(config, (part,))]
    files = weight_files(config, [*needed_parts(training), *words])
    files |= {name: locate(name) for name in config.learn.recognisers}
    depends = {
        "configuration": read_by(LORA, training),
        "learn": {name: value for name, value in asdict(config.learn).items() if name not in ("always", "skip")},
        "pictures": [sha256(path) for path in pictures],
        "face": choose,
        "words": prompt_digest(pictures, config.prompt.file),
        "base": base_record(training),
        "weights": {part: sha256(path) for part, path in files.items()} | detector_digests(config.faces),
    }
    return cache_folder() / "learned" / digest(depends)[:32]


def is_learned(folder: Path) -> bool:
    """Return whether a folder of :func:`learned_folder` exists and is complete."""
    return (folder / CARD).is_file()


def learning(config: Config, identity: str) -> Config:
    """Return the configuration of the training: that of the restoration with the options of ``learn``.

    Options that a single picture does not use, such as how faces are followed, get their defaults.
    """
    learn, faces = config.learn, config.faces
    return replace(
        config,
        video=replace(config.video, clip_frames=1, overlap=0),
        faces=FacesConfig(faces.detector, faces.refine, faces.min_confidence, faces.max_side),
        train=replace(config.train, minutes=0.0),
        weights=replace(config.weights, lora=""),
        data=replace(
            config.data,
            identity=identity,
            flip=False,
            zoom=_ZOOM,
            variation=learn.variation,
            levels=learn.levels,
            workers=0,
        ),
        loss=replace(
            config.loss,
            highest_noise=1.0,
            drop_text=0.0,
            reward=0.0,
        ),
        polish=replace(config.polish, identity=learn.identity, features=learn.features),
        optimizer=replace(
            config.optimizer,
            lr=learn.lr,
            steps=learn.steps,
            warmup=_WARMUP,
            final_lr=_FINAL_LR,
            weight_decay=0.0,
        ),
    )


def learn(config: Config, pictures: Sequence[Path], folder: Path, choose: int = 0) -> None:
    """Train the LoRA of ``config.data.identity`` and write it to ``folder``.

    Args:
        config: of :func:`learning`.
        pictures, choose: see :func:`learned_lora`.
        folder: must exist.

    Raises:
        UserError: see :func:`learned_lora`.
    """
    size = config.video.size
    detector, recogniser = make_detector(config.faces), load_recogniser(config.reward.recogniser)
    found = [load_picture(path, detector, recogniser, size, choose) for path in pictures]
    likeness = {scene.path.name: 1.0 for _, scene in found}  # each picture is its own reference
    person = Person(config.data.identity, [ref for ref, _ in found], [scene for _, scene in found], [], likeness)
    config, words = speaking_of(config, person)
    device = choose_device(config.device)
    bf16 = choose_dtype(config.dtype, device) != torch.float32
    with torch.random.fork_rng(), quiet_lightning(warn=False):
        torch.manual_seed(config.seed)
        module = PictureLoraTraining(config, person, recogniser, words)
        trainer = pl.Trainer(
            max_steps=config.optimizer.steps,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            precision="bf16-mixed" if bf16 else "32-true",
            gradient_clip_val=config.optimizer.clip_norm,
            callbacks=[_Bar(config.data.identity, config.optimizer.steps)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module)
        module.export(folder)


class _Bar(pl.Callback):
    """Shows steps and the remaining time."""

    def __init__(self, identity: str, steps: int) -> None:
        self.bar = progress_bar(steps, f"learning {_whose(identity)}", "step")

    def on_train_batch_end(self, *_: Any) -> None:
        """Count one step."""
        self.bar.update()

    def on_train_end(self, *_: Any) -> None:
        """Remove the bar."""
        self.bar.close()


def _whose(identity: str) -> str:
    return f"{identity}'s face" if identity else "the face"
