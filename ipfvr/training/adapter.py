"""Training of the image prompt (Section 3.2): the projection and Eq. 4's K_i and V_i, on top of a frozen base."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.data.faces import FaceData
from ipfvr.faces.align import face_template, warp_faces
from ipfvr.faces.recognise import Recogniser, load_recogniser
from ipfvr.metrics.niqe import Pristine, load_pristine, niqe
from ipfvr.models.adapter import adapter_header, adapter_modules
from ipfvr.models.backbone import make_denoiser, make_image_prompt, save_module
from ipfvr.training.base import BaseTraining, correlated_noise, latent_weight
from ipfvr.training.common import mean_psnr
from ipfvr.weights.registry import locate

_RATED = 16  # frames of a validation batch whose NIQE is computed, one after the other: a GPU would wait for more


class AdapterTraining(BaseTraining):
    """Minimises Eq. 3 with references of the same person as the image prompt.

    The training drops the text as the base's does. It drops the image prompt by setting the encoders' features to zero,
    as IP-Adapter does; the projection of zeros then is the prompt that a restoration without reference uses.

    ``loss.identity`` adds 1 - cosine of a recogniser between the decoded one-step estimate and the truth, for samples
    at step ``loss.identity_from`` or above, where the appearance of the face is decided. The loss includes samples
    without image prompt; otherwise the network could tell by the prompt whether a recogniser looks at the face. A share
    ``loss.strangers`` of the samples gets another person's references, and their identity loss asks for that person.
    This multiplies the pairs, and teaches the network to follow the reference instead of remembering people.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.data.references < 1:
            raise UserError("train.module adapter needs references: data.references=1 or more")
        self.recognisers = torch.nn.ModuleList(load_recogniser(name) for name in self.recogniser_names())
        own = next(iter(self.recognisers), None)
        self.validator = load_recogniser(config.train.judge) if config.train.judge else own
        self.pristine = find_pristine()

    def build(self) -> None:
        """Build the frozen denoiser and the parts of its image prompt, which are ``self.network``."""
        self.denoiser = make_denoiser(self.config)
        prompt = make_image_prompt(self.config, self.denoiser)
        if prompt is None:
            raise UserError("train.module adapter needs an image_prompt.source: clip, recogniser or both")
        self.prompt = prompt
        self.network = adapter_modules(prompt, self.denoiser).requires_grad_(True)

    def recogniser_names(self) -> list[str]:
        """Return the recognisers of the identity loss; none if it has no weight."""
        return self.config.loss.recognisers if self.config.loss.identity else []

    def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
        """Compute the loss of one batch of pictures or clips."""
        z_hq, z_lq = self.latents(batch)
        text = self.embed(self.drop_text(batch["text"]))
        step, noise = self.draw_steps(len(z_hq)), correlated_noise(z_hq, self.config.sampler.noise_correlation)
        tokens, shown, strange = self.show(batch)
        weight = latent_weight(batch, z_hq)
        loss, restored = self.estimate(self.denoiser, text, z_hq, z_lq, step, noise, tokens, weight)
        kind = "clips" if z_hq.shape[2] > 1 else "pictures"
        self.log(f"loss/{kind}", loss, prog_bar=True, batch_size=len(z_hq))
        noisy = step >= self.config.loss.identity_from
        if self.recognisers and noisy.any():
            points = misplaced(batch["landmarks"][noisy], self.config.loss.identity_jitter * batch["pixels"].shape[-1])
            cosines = []
            for judge in self.recognisers:
                wanted = self.wanted(judge, batch, shown, strange)[noisy]
                cosines.append(self.similarity(judge, restored[noisy], points, wanted).mean())
            identity = 1 - torch.stack(cosines).mean()
            self.log(f"loss/identity_{kind}", identity, prog_bar=True, batch_size=int(noisy.sum()))
            loss = loss + self.config.loss.identity * identity
        return loss

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        """Validate the average on held-out people: with their references, with none, and with another person's.

        ``val/identity`` is the cosine of ``train.judge``. Where NIQE's file is missing, there is no ``val/niqe``.
        """
        z_hq, z_lq = self.latents(batch)
        noise = torch.randn(z_hq.shape, generator=torch.Generator().manual_seed(number)).to(z_hq)
        step = torch.full((len(z_hq),), self.config.sampler.start_step, device=z_hq.device)
        everyone = torch.ones_like(step, dtype=torch.bool)
        text, real = self.embed(batch["text"]), batch["pixels"].flatten(0, 1)
        metrics = {}
        bicubic = batch["low"].flatten(0, 1)
        metrics["val/psnr_bicubic"] = mean_psnr(bicubic, real)
        if self.pristine is not None:
            metrics["val/niqe_bicubic"] = mean_niqe(bicubic, self.pristine)
        if self.validator is not None:
            truth = self.wanted(self.validator, batch, batch["reference"], ~everyone)
            metrics["val/identity_bicubic"] = self.cosines(self.validator, bicubic, batch["landmarks"], truth).mean()
        with exchanged(self.network, self.ema):
            right = self.image_tokens(batch["reference"], everyone)
            # Neighbours of a sorted batch are often one person: half a batch away is another.
            wrong = right.roll(len(right) // 2, 0)
            for name, tokens in (("right", right), ("none", self.nobody(batch["reference"])), ("wrong", wrong)):
                loss, restored = self.estimate(self.denoiser, text, z_hq, z_lq, step, noise, tokens)
                metrics[f"val/loss_{name}"] = loss
                pixels = self.codec.decode(restored.transpose(1, 2).flatten(0, 1))
                metrics[f"val/psnr_{name}"] = mean_psnr(pixels, real)
                if self.pristine is not None:
                    metrics[f"val/niqe_{name}"] = mean_niqe(pixels, self.pristine)
                if self.validator is not None:
                    similarity = self.similarity(self.validator, restored, batch["landmarks"], truth)
                    metrics[f"val/identity_{name}"] = similarity.mean()
        self.log_dict(metrics, batch_size=len(z_hq), sync_dist=True)

    def export(self, folder: Path) -> list[Path]:
        """Write ``adapter.safetensors`` in IP-Adapter's layout."""
        file = folder / "adapter.safetensors"
        save_module(self.ema.state_dict(), file, self.metadata() | adapter_header(self.prompt))
        return [file]

    def show(self, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor, Tensor]:
        """Choose the references of a batch: some items get another person's, some none.

        Returns:
            Image tokens (B, N, D) or None, the chosen references (B, R, 3, S, S), and (B,) bool, which items have
            another person's.
        """
        references = batch["reference"]
        kept = torch.rand(len(references), device=references.device) >= self.config.loss.drop_image
        shown, strange = exchange_references(references, kept, self.config.loss.strangers)
        return self.image_tokens(shown, kept), shown, strange

    def nobody(self, references: Tensor) -> Tensor | None:
        """Make the image tokens of items without a reference, for validation."""
        return self.image_tokens(references, torch.zeros(len(references), dtype=torch.bool, device=references.device))

    def image_tokens(self, references: Tensor, kept: Tensor) -> Tensor:
        """Make image tokens (B, N, D) of references (B, R, 3, S, S), or of none where ``kept`` (B,) is False."""
        count = references.shape[1]
        features = self.prompt.features(references.flatten(0, 1))
        share = kept.repeat_interleave(count).to(references)
        return self.prompt.tokens([f * share.reshape(-1, *[1] * (f.ndim - 1)) for f in features], count)

    @torch.no_grad()
    def wanted(self, judge: Recogniser, batch: dict[str, Any], shown: Tensor, strange: Tensor) -> Tensor:
        """Return the embeddings (B, F, D) that the identity loss asks for: the truth's, or the strangers'.

        Args:
            judge: phi.
            batch: has ``pixels`` (B, F, 3, S, S) and ``landmarks`` (B, 5, 2).
            shown: references (B, R, 3, S', S'), aligned to the template.
            strange: (B,) bool, which items have another person's references. Their target is the mean embedding of
                ``shown``.
        """
        frames, references = batch["pixels"].shape[1], shown.shape[1]
        landmarks = batch["landmarks"].repeat_interleave(frames, 0)
        wanted = judge.embed(warp_faces(batch["pixels"].flatten(0, 1), landmarks)).float().unflatten(0, (-1, frames))
        if strange.any():
            template = face_template(shown.shape[-1])[None].repeat(int(strange.sum()) * references, 0)
            people = judge.embed(warp_faces(shown[strange].flatten(0, 1), template)).float()
            wanted[strange] = people.unflatten(0, (-1, references)).mean(1, keepdim=True)
        return wanted

    def similarity(self, judge: Recogniser, latents: Tensor, landmarks: Tensor, wanted: Tensor) -> Tensor:
        """Compute the cosines (B, F) of Eq. 5 between decoded latents and embeddings.

        Args:
            judge: phi.
            latents: (B, C, F, h, w).
            landmarks: (B, 5, 2) pixels, of all frames of an item.
            wanted: (B, F, D), see :meth:`wanted`.
        """
        restored = self.codec.decode(latents.transpose(1, 2).flatten(0, 1)).float().clamp(-1, 1)
        return self.cosines(judge, restored, landmarks, wanted)

    def cosines(self, judge: Recogniser, pixels: Tensor, landmarks: Tensor, wanted: Tensor) -> Tensor:
        """Compute :meth:`similarity` of frames (B * F, 3, S, S) in [-1, 1]."""
        found = judge.embed(warp_faces(pixels, landmarks.repeat_interleave(wanted.shape[1], 0))).float()
        return functional.cosine_similarity(found.unflatten(0, wanted.shape[:2]), wanted, dim=-1)


def find_pristine() -> Pristine | None:
    """Return NIQE's parameters for the validation, or None where their file is missing."""
    try:
        return load_pristine(locate("niqe"))
    except UserError:
        return None


def mean_niqe(pixels: Tensor, pristine: Pristine) -> Tensor:
    """Return the mean NIQE of the first frames of (N, 3, H, W), clipped to [-1, 1].

    At most :data:`_RATED` are rated, and frames without texture do not count.
    """
    return niqe(pixels[:_RATED].float().clamp(-1, 1) / 2 + 0.5, pristine).nanmean().float()


def misplaced(landmarks: Tensor, spread: float) -> Tensor:
    """Shift each of the landmarks (B, 5, 2) at random, with a standard deviation of ``spread`` pixels.

    Against a recogniser that always sees the same crop, the network could learn a pattern in which no other recogniser
    sees a face. Such a pattern does not survive crops that are turned, shifted and scaled a little.
    """
    return landmarks + spread * torch.randn_like(landmarks) if spread else landmarks


def exchange_references(references: Tensor, kept: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Give some items of a batch the references of another one.

    Args:
        references: (B, R, ...).
        kept: (B,) bool, the items whose references are used at all; only these are exchanged.
        share: probability that an item is exchanged.

    Returns:
        The references after the exchange, and (B,) bool, which items have another one's. The chosen items pass theirs
        on in a circle; a single one keeps its own.
    """
    chosen = torch.nonzero(kept & (torch.rand(len(kept), device=kept.device) < share)).flatten()
    strange = torch.zeros_like(kept)
    if len(chosen) < 2:
        return references, strange
    shown = references.clone()
    shown[chosen] = references[chosen.roll(1)]
    strange[chosen] = True
    return shown, strange


@contextmanager
def exchanged(network: nn.Module, average: nn.Module) -> Iterator[None]:
    """Exchange the parameters of a network and of its average inside the block."""
    pairs = list(zip(network.parameters(), average.parameters(), strict=True))

    def exchange() -> None:
        for a, b in pairs:
            a.data, b.data = b.data, a.data

    exchange()
    try:
        yield
    finally:
        exchange()


def make_adapter_training(config: Config) -> tuple[AdapterTraining, FaceData]:
    """Make the training, and its data: pictures and clips of many people."""
    return AdapterTraining(config), FaceData(config)
