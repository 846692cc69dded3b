"""Training of one person's LoRA (Section 3.2) with the feedback reward (Section 3.3): L_rec + weight * L_id_reward."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from ipfvr.conditioning.face2text import with_words
from ipfvr.conditioning.prompt_file import read_by_hand
from ipfvr.core.config import config_to_dict
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.core.pixels import to_tensor
from ipfvr.core.provenance import versions
from ipfvr.data.scenes import Person, Scene, SceneData, load_person
from ipfvr.faces.detect import make_detector
from ipfvr.faces.recognise import Recogniser, load_recogniser
from ipfvr.identity.reward import FaceRewards, Feedback, clip_feedback
from ipfvr.metrics.identity import identity_drift
from ipfvr.models.backbone import make_denoiser, make_image_prompt
from ipfvr.models.lora import add_lora, base_record, save_lora
from ipfvr.training.base import BaseTraining, correlated_noise
from ipfvr.training.lora_report import LoraReport

log = logging.getLogger(__name__)


class Given(NamedTuple):
    """The arguments of :meth:`BaseTraining.estimate` beside the network."""

    text: Tensor
    z_hq: Tensor
    z_lq: Tensor
    step: Tensor
    noise: Tensor
    image_tokens: Tensor | None


class LoraTraining(BaseTraining):
    """Minimises Eq. 3 on one person's scenes, and Eq. 8 on the decoded one-step estimate of the same forward pass.

    Only samples at steps up to ``reward.max_step`` get a reward. There is no moving average, since a LoRA is trained
    for about a hundred steps.
    """

    def __init__(
        self, config: Config, person: Person, recogniser: Recogniser, words: dict[str, Any] | None = None
    ) -> None:
        """Build the networks and the reward.

        Args:
            config: its prompts describe the person.
            person: the reward compares with this person's references.
            recogniser: phi of Eq. 5.
            words: how the prompts were made, for the card.

        Raises:
            UserError: an invalid option.
        """
        if config.loss.reward < 0 or not 0 <= config.reward.max_step < config.schedule.timesteps:
            raise UserError(
                f"loss.reward {config.loss.reward} must be 0 or above, reward.max_step {config.reward.max_step} a step "
                f"below {config.schedule.timesteps}"
            )
        if config.reward.chunk < 1:
            raise UserError(f"reward.chunk is {config.reward.chunk}; it must be at least 1 frame")
        super().__init__(config)
        self.strict_loading = False  # a checkpoint holds the adapters alone
        self.person, self.words = person, words or {}
        self.face_rewards = FaceRewards(self.codec, recogniser, person.embedding(recogniser))
        self.history: list[dict[str, float]] = []
        self._tokens: Tensor | None = None

    def build(self) -> None:
        """Build the frozen denoiser with adapters, and the image prompt if there are weights for it."""
        self.network = make_denoiser(self.config)
        self.prompt = make_image_prompt(self.config, self.network) if self.config.weights.adapter else None
        self.network.unet = add_lora(self.network.unet, self.config.lora)

    def average(self) -> None:
        """Keep no average, see the class."""

    def on_train_batch_end(self, *_: object) -> None:
        """Update no average, see the class."""

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return the report, which shows a clip before and after."""
        return [LoraReport(Path(self.config.train.output))]

    def given(self, batch: dict[str, Any]) -> Given:
        """Return the denoiser's inputs for a batch: random steps and noise, the words, the person's image tokens."""
        z_hq, z_lq = self.latents(batch)
        step, noise = self.draw_steps(len(z_hq)), correlated_noise(z_hq, self.config.sampler.noise_correlation)
        text, tokens = self.embed(self.drop_text(batch["text"])), self.image_tokens()
        return Given(text, z_hq, z_lq, step, noise, None if tokens is None else tokens.expand(len(z_hq), -1, -1))

    def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
        """Compute the loss of one batch of clips."""
        given = self.given(batch)
        count, step = len(given.z_hq), given.step
        loss, restored = self.estimate(self.network, **given._asdict())
        values = {"loss/rec": loss.detach()}
        if self.config.loss.reward:
            found = [
                self.feedback(restored[i], batch["landmarks"][i])
                for i in range(count)
                if step[i] <= self.config.reward.max_step
            ]
            if found:
                identity = torch.stack([f.loss for f in found]).sum() / count
                loss = loss + self.config.loss.reward * identity
                values |= {"loss/id_reward": identity.detach(), **described(found)}
        values["loss/total"] = loss.detach()
        self.log_dict(values, prog_bar=False, batch_size=count)
        self.history.append({"step": self.global_step, **{k: round(float(v), 5) for k, v in values.items()}})
        return loss

    def feedback(self, restored: Tensor, landmarks: Tensor) -> Feedback:
        """Compute Eq. 5 to 8 for a clip's estimate (C, F, h, w) and the truth's landmarks (F, 5, 2); f is random."""
        # Half precision has three digits, too few for the differences between neighbouring frames.
        with torch.autocast(restored.device.type, enabled=False):
            return clip_feedback(
                restored.float().transpose(0, 1),
                self.face_rewards.of_clip(landmarks),
                self.config.reward,
                self.face_rewards.chunk(self.config.reward.chunk),
                int(torch.randint(restored.shape[1], ())),
                self.face_rewards.alone,
            )

    @torch.no_grad()
    def image_tokens(self) -> Tensor | None:
        """Return the references' image tokens (1, N, D), or None. They are made once, since they do not change."""
        if self._tokens is None and self.prompt is not None:
            faces = to_tensor(np.stack([r.face for r in self.person.references]))
            self._tokens = self.prompt(faces.to(self.device))
        return self._tokens

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only the adapters and the log; everything else is frozen and has files of its own."""
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if ".lora_" in k}
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the log again."""
        self.history = checkpoint["history"]

    def export(self, folder: Path) -> list[Path]:
        """Write a LoRA folder, see :mod:`ipfvr.models.lora`."""
        return save_lora(self.network.unet, folder, self.card())

    def card(self) -> dict[str, Any]:
        """Return what made the adapters, see :func:`ipfvr.models.lora.save_lora`."""
        config, person, recogniser = self.config, self.person, self.face_rewards.recogniser
        reward = {**vars(config.reward), "weight": config.loss.reward, "recogniser_sha256": recogniser.sha256}
        return {
            "identity": person.identity,
            "base": base_record(config),
            "steps": self.global_step,
            "losses": {"first": self.history[:1], "last": self.history[-1:], "mean_of_last_20": self._mean(20)},
            "references": [{"file": r.path.name, "sha256": r.sha256} for r in person.references],
            "scenes": [self._record(scene) for scene in person.train],
            "test_scenes": [self._record(scene) for scene in person.test],
            "remarks": person.remarks,
            "prompt": config.prompt.positive,
            "words": self.words,
            "image_prompt": config.weights.adapter and {**vars(config.image_prompt), "weights": config.weights.adapter},
            "lora": vars(config.lora),
            "reward": reward if config.loss.reward else "none",
            "seed": config.seed,
            "versions": versions(),
            "configuration": config_to_dict(config),
        }

    def _record(self, scene: Scene) -> dict[str, Any]:
        likeness = self.person.likeness[scene.path.name]
        return {"file": scene.path.name, "sha256": scene.sha256, "frames": len(scene.frames), "likeness": likeness}

    def _mean(self, steps: int) -> dict[str, float]:
        rows = self.history[-steps:]
        keys = sorted({key for row in rows for key in row if key.startswith("loss/")})
        return {key: round(float(np.mean([row[key] for row in rows if key in row])), 5) for key in keys}


def described(found: list[Feedback]) -> dict[str, Tensor]:
    """Return numbers to log: mean r_f and R_f of the batch, their drift over a clip, and r_f of every frame."""
    rewards = torch.stack([f.rewards for f in found])
    values = {
        "reward/r": rewards.mean(),
        "reward/R_f": torch.stack([f.discounted[f.frame] for f in found]).mean(),
        "reward/sigma": rewards.std(1, correction=0).mean(),
        "reward/drift": torch.stack([identity_drift(row) for row in rewards]).mean(),
    }
    return values | {f"r_f/{frame:02d}": value for frame, value in enumerate(rewards.mean(0))}


def make_lora_training(config: Config) -> tuple[LoraTraining, SceneData]:
    """Make the training and the data of ``data.identity``.

    Raises:
        UserError: see :func:`ipfvr.data.scenes.load_person`.
    """
    person, recogniser = checked_person(config), load_recogniser(config.reward.recogniser)
    for remark in person.remarks:
        log.info("note: %s", remark)
    config, words = speaking_of(config, person)
    return LoraTraining(config, person, recogniser, words), SceneData(config, person)


def speaking_of(config: Config, person: Person) -> tuple[Config, dict[str, Any]]:
    """Return the configuration with the prompts that restore uses for the person, and how they were made."""
    by_hand = read_by_hand([r.path for r in person.references], config)
    return with_words(config, [r.face for r in person.references], by_hand)


def checked_person(config: Config) -> Person:
    """Read the person of ``data.identity`` and check that all scenes and references show one person.

    ``weights.recogniser`` decides that if its file is there, since it tells strangers apart more reliably than mini's
    own recognisers; otherwise ``reward.recogniser`` does.

    Raises:
        UserError: see :func:`ipfvr.data.scenes.load_person`.
    """
    try:
        judge = load_recogniser(config.weights.recogniser)
    except UserError:
        judge = load_recogniser(config.reward.recogniser)
    return load_person(config, judge, make_detector(config.faces))
