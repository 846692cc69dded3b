"""The network's calls for the branches of a guider.

The U-Net runs once for each branch. The ControlNet sees the text but no image prompt, so it runs once for each text:
the positive and the negative visual branch of Eq. 12 share its features. The stems, which both networks compute before
they read a text or an image prompt, run once for each step. All of this is exact: only equal computations are shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from ipfvr.core.choices import Batching
from ipfvr.diffusion.conditions import Branch
from ipfvr.diffusion.guidance import Guider
from ipfvr.diffusion.schedule import Schedule
from ipfvr.diffusion.solvers import Denoise


class Repeatable(Protocol):
    """An intermediate result of a network that does not depend on the branch."""

    def repeat(self, times: int) -> Repeatable:
        """Return the same result for ``times`` branches in one call."""
        ...


class Denoiser(Protocol):
    """The network that the sampler calls: the video U-Net with its ControlNet, which predicts v."""

    def begin(
        self, x: Tensor, t: Tensor, hint: Tensor, t_hint: Tensor, up_scale: Tensor, mask_cond: Tensor
    ) -> tuple[Repeatable, Repeatable]:
        """Compute the stems of the U-Net and the ControlNet."""
        ...

    def control(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        hint: Tensor,
        t_hint: Tensor,
        up_scale: Tensor,
        mask_cond: Tensor,
        stem: Repeatable | None = None,
    ) -> list[Tensor]:
        """Compute the ControlNet's features, each (B * F, ...), given its stem."""
        ...

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        hint: Tensor,
        t_hint: Tensor,
        up_scale: Tensor,
        mask_cond: Tensor,
        image_tokens: Tensor | None = None,
        control: list[Tensor] | None = None,
        stem: Repeatable | None = None,
    ) -> Tensor:
        """Predict v (B, C, F, h, w) for the noisy latent x of the same shape at step t (B,), given control and stem."""
        ...


@dataclass(frozen=True)
class Hint:
    """The ControlNet's input, which is the same in every branch.

    Attributes:
        latent: (B, C, K, h, w) low-quality key frames with the noise of ``step``.
        step: the step of the schedule of their noise; 0 if there is none.
        up_scale: the factor between the low-quality pixels and the restored ones.
        mask_cond: (B, F) 0 for a key frame, 1 for a frame to interpolate.
    """

    latent: Tensor
    step: int
    up_scale: int
    mask_cond: Tensor


@dataclass(frozen=True)
class DenoiserInputs:
    """The inputs of the U-Net and the ControlNet except the image prompt, named as the denoiser's arguments.

    Attributes:
        x: (B, C, F, h, w) noisy latent.
        t: (B,) the step of the schedule of its noise.
        text: (B, L, D) text embedding.
        hint: (B, C, K, h, w) key frames.
        t_hint: (B,) the step of the schedule of their noise.
        up_scale: (B,) the factor between the low-quality pixels and the restored ones.
        mask_cond: (B, F) 0 for a key frame, 1 for a frame to interpolate.
    """

    x: Tensor
    t: Tensor
    text: Tensor
    hint: Tensor
    t_hint: Tensor
    up_scale: Tensor
    mask_cond: Tensor

    @classmethod
    def of(cls, z_t: Tensor, step: int, text: Tensor, hint: Hint) -> DenoiserInputs:
        """Make the inputs for a noisy latent z_t at a step, in the text's dtype."""

        def batch(value: int) -> Tensor:
            return torch.full((z_t.shape[0],), value, dtype=torch.long, device=z_t.device)

        latent = hint.latent.to(text.dtype)
        steps = batch(step), batch(hint.step), batch(hint.up_scale)
        return cls(z_t.to(text.dtype), steps[0], text, latent, *steps[1:], hint.mask_cond)

    def named(self) -> dict[str, Tensor]:
        """Return all inputs as keyword arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def without_text(self) -> dict[str, Tensor]:
        """Return the inputs of the stems as keyword arguments."""
        return {name: value for name, value in self.named().items() if name != "text"}

    def repeated(self, texts: Sequence[Tensor]) -> DenoiserInputs:
        """Repeat the latent in the batch, once for each text."""
        rest = {name: torch.cat([value] * len(texts)) for name, value in self.without_text().items()}
        return DenoiserInputs(text=torch.cat(list(texts)), **rest)


class Streams:
    """Runs the network for the branches of a guider.

    Args:
        batching: ``always`` (all branches in one call), ``never`` (one after the other, with the memory of one), or
            ``auto``: on a GPU in one call, but one after the other once that has run out of memory; on a CPU, where
            one call is not faster, one after the other.
    """

    def __init__(self, batching: Batching = Batching.auto) -> None:
        self.batching = Batching(batching)

    def together(self, device: torch.device) -> bool:
        """Return whether the branches run in one call on a device."""
        return self.batching == Batching.always or (self.batching == Batching.auto and device.type == "cuda")

    def predict(
        self, denoiser: Denoiser, z_t: Tensor, step: int, branches: Mapping[str, Branch], hint: Hint
    ) -> dict[str, Tensor]:
        """Predict v for every branch.

        Args:
            denoiser: predicts v.
            z_t: (B, C, F, h, w) noisy latent, the same in all branches.
            step: the step of the schedule.
            branches: the branches by name, in the order in which they are run. In one call all texts must have the same
                shape, and so must all image tokens.
            hint: the hint for all branches.
        """
        if len(branches) > 1 and self.together(z_t.device):
            try:
                return _in_one_call(denoiser, z_t, step, branches, hint)
            except torch.OutOfMemoryError:
                if self.batching == Batching.always:
                    raise
                self.batching = Batching.never
        return _one_by_one(denoiser, z_t, step, branches, hint)


def guided_denoise(
    denoiser: Denoiser,
    schedule: Schedule,
    guider: Guider,
    branches: Mapping[str, Branch],
    hint: Hint,
    streams: Streams,
) -> Denoise:
    """Return the function (z_t, step) -> z_0 that a solver calls, which combines the branches of the guider.

    Args:
        denoiser: predicts v.
        schedule: computes z_0 from v.
        guider: names the branches and combines their predictions.
        branches: the available branches; a branch of the guider that is not among them is not run.
        hint: the hint for all branches.
        streams: runs the branches.
    """

    def denoise(z_t: Tensor, step: int) -> Tensor:
        active = {name: branches[name] for name in guider.branches(step) if name in branches}
        predictions = streams.predict(denoiser, z_t, step, active, hint)
        return schedule.denoised_from_v(z_t, guider.combine(predictions), step)

    return denoise


def _one_by_one(
    denoiser: Denoiser, z_t: Tensor, step: int, branches: Mapping[str, Branch], hint: Hint
) -> dict[str, Tensor]:
    predictions, texts = {}, _texts(branches)
    inputs = DenoiserInputs.of(z_t, step, texts[0], hint)
    stem, control_stem = denoiser.begin(**inputs.without_text())
    for text in texts:
        given = replace(inputs, text=text).named()
        control = denoiser.control(**given, stem=control_stem)
        for name, branch in branches.items():
            if branch.text is text:
                v = denoiser(**given, image_tokens=branch.image_tokens, control=control, stem=stem)
                predictions[name] = v.to(z_t.dtype)
    return predictions


def _in_one_call(
    denoiser: Denoiser, z_t: Tensor, step: int, branches: Mapping[str, Branch], hint: Hint
) -> dict[str, Tensor]:
    texts, every = _texts(branches), list(branches.values())
    inputs = DenoiserInputs.of(z_t, step, texts[0], hint)
    stem, control_stem = denoiser.begin(**inputs.without_text())
    given = inputs.repeated(texts).named()
    features = denoiser.control(**given, stem=control_stem.repeat(len(texts)))
    place = {id(text): number for number, text in enumerate(texts)}
    text_of_branch = torch.tensor([place[id(branch.text)] for branch in every], device=z_t.device)
    control = [f.unflatten(0, (len(texts), -1))[text_of_branch].flatten(0, 1) for f in features]
    given = inputs.repeated([branch.text for branch in every]).named()
    tokens = [branch.image_tokens for branch in every if branch.image_tokens is not None]
    image_tokens = torch.cat(tokens) if tokens else None
    v = denoiser(**given, image_tokens=image_tokens, control=control, stem=stem.repeat(len(every)))
    return dict(zip(branches, v.to(z_t.dtype).chunk(len(every)), strict=True))


def _texts(branches: Mapping[str, Branch]) -> list[Tensor]:
    """Return the texts, each once."""
    return list({id(branch.text): branch.text for branch in branches.values()}.values())
