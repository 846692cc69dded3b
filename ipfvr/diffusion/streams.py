"""What the branches of a guider show the network, and how the network is run for all of them.

The U-Net is run once a branch. The ControlNet sees the text but no image prompt, so it is run once a text: the positive
and the negative visual branch of Eq. 12 share its features. What both compute before they first read a text or an image
prompt, their stems, is run once a step. All of this is exact: nothing is left out that differs between branches.
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
    """What a network has computed that does not depend on the branch."""

    def repeat(self, times: int) -> Repeatable:
        """The same for ``times`` branches in one call."""
        ...


class Denoiser(Protocol):
    """What the sampler calls: the video U-Net with its ControlNet, predicting v."""

    def begin(
        self, x: Tensor, t: Tensor, hint: Tensor, t_hint: Tensor, up_scale: Tensor, mask_cond: Tensor
    ) -> tuple[Repeatable, Repeatable]:
        """The stems of U-Net and ControlNet."""
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
        """The ControlNet's features, each (B * F, ...), given its stem."""
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
        """v (B, C, F, h, w) of the noisy latent x, like v, at step t (B,), given control and stem."""
        ...


@dataclass(frozen=True)
class Hint:
    """What the ControlNet sees, the same in every branch.

    Attributes:
        latent: (B, C, K, h, w) low-quality key frames, noised to ``step``.
        step: how far they are noised; 0 where they are not.
        up_scale: the factor between the low-quality pixels and the restored ones.
        mask_cond: (B, F) 0 where a frame is a key frame, 1 where it is to be interpolated.
    """

    latent: Tensor
    step: int
    up_scale: int
    mask_cond: Tensor


@dataclass(frozen=True)
class DenoiserInputs:
    """What U-Net and ControlNet see beside the image prompt, by the names of the denoiser's arguments.

    Attributes:
        x: (B, C, F, h, w) noisy latent.
        t: (B,) its step of the schedule.
        text: (B, L, D) text embedding.
        hint: (B, C, K, h, w) key frames.
        t_hint: (B,) how far they are noised.
        up_scale: (B,) the factor between the low-quality pixels and the restored ones.
        mask_cond: (B, F) 0 where a frame is a key frame, 1 where it is to be interpolated.
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
        """The inputs of a noisy latent z_t at a step, in the text's dtype."""

        def batch(value: int) -> Tensor:
            return torch.full((z_t.shape[0],), value, dtype=torch.long, device=z_t.device)

        latent = hint.latent.to(text.dtype)
        steps = batch(step), batch(hint.step), batch(hint.up_scale)
        return cls(z_t.to(text.dtype), steps[0], text, latent, *steps[1:], hint.mask_cond)

    def named(self) -> dict[str, Tensor]:
        """All of them, as keyword arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def without_text(self) -> dict[str, Tensor]:
        """What the stems are computed from."""
        return {name: value for name, value in self.named().items() if name != "text"}

    def repeated(self, texts: Sequence[Tensor]) -> DenoiserInputs:
        """The same latent once for each text, one behind the other in the batch."""
        rest = {name: torch.cat([value] * len(texts)) for name, value in self.without_text().items()}
        return DenoiserInputs(text=torch.cat(list(texts)), **rest)


class Streams:
    """Runs the network for the branches of a guider.

    Args:
        batching: ``always`` (all branches in one call), ``never`` (one after the other, at the memory of one) or
            ``auto``: on a GPU in one call until that once does not fit into its memory, one after the other from then
            on; on a CPU, which gains nothing by it, one after the other.
    """

    def __init__(self, batching: Batching = Batching.auto) -> None:
        self.batching = Batching(batching)

    def together(self, device: torch.device) -> bool:
        """Whether the branches go in one call on a device."""
        return self.batching == Batching.always or (self.batching == Batching.auto and device.type == "cuda")

    def predict(
        self, denoiser: Denoiser, z_t: Tensor, step: int, branches: Mapping[str, Branch], hint: Hint
    ) -> dict[str, Tensor]:
        """v of every branch.

        Args:
            denoiser: predicts v.
            z_t: (B, C, F, h, w) noisy latent, the same in all branches.
            step: its step of the schedule.
            branches: by name, in the order in which they are run. In one call their texts must have one shape and
                their image tokens too.
            hint: of all branches.
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
    """The function (z_t, step) -> z_0 that a solver calls: every branch of the guider, combined, z_0 from v.

    Args:
        denoiser: predicts v.
        schedule: gives z_0 from v.
        guider: names the branches and combines their predictions.
        branches: those that exist; one that the guider names and that is not among them is not run.
        hint: of all branches.
        streams: how the branches are run.
    """

    def denoise(z_t: Tensor, step: int) -> Tensor:
        wanted = {name: branches[name] for name in guider.branches(step) if name in branches}
        predictions = streams.predict(denoiser, z_t, step, wanted, hint)
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
    wanted = torch.tensor([place[id(branch.text)] for branch in every], device=z_t.device)
    control = [f.unflatten(0, (len(texts), -1))[wanted].flatten(0, 1) for f in features]
    given = inputs.repeated([branch.text for branch in every]).named()
    tokens = [branch.image_tokens for branch in every if branch.image_tokens is not None]
    image_tokens = torch.cat(tokens) if tokens else None
    v = denoiser(**given, image_tokens=image_tokens, control=control, stem=stem.repeat(len(every)))
    return dict(zip(branches, v.to(z_t.dtype).chunk(len(every)), strict=True))


def _texts(branches: Mapping[str, Branch]) -> list[Tensor]:
    """The texts, each once."""
    return list({id(branch.text): branch.text for branch in branches.values()}.values())
