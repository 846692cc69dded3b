"""Low-quality face crops to restored ones, clip by clip, at constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config, PromptConfig
from ipfvr.core.pixels import resize, to_frames, to_tensor
from ipfvr.degradation.reference import degraded_reference
from ipfvr.diffusion.guidance import NEGATIVE_VISUAL
from ipfvr.diffusion.long_video import ClipMemory, make_long_video
from ipfvr.diffusion.sampler import Sampler
from ipfvr.diffusion.schedule import Schedule
from ipfvr.models.networks import Networks
from ipfvr.video.clips import ClipWindow

Progress = Callable[[int], None]


class Restorer:
    """What the networks of a configuration do to a clip, for one person: with whose words and references.

    Attributes:
        networks: see :class:`~ipfvr.models.networks.Networks`.
        steps: solver steps a clip takes.
        long_video: what ties clips together.
        lora: the card of the person's LoRA, or None.
        shows_references: whether somebody's references are the image prompt.
    """

    def __init__(self, config: Config, networks: Networks | None = None) -> None:
        """Restore by a configuration.

        Args:
            config: how.
            networks: of the same weights, to share them with others; None: they are loaded.

        Raises:
            UserError: as :class:`~ipfvr.models.networks.Networks`; an option without meaning.
        """
        self.config = config
        self.long_video = make_long_video(config.long_video, config.video.overlap)
        self.networks = Networks(config) if networks is None else networks
        self.device, self.dtype = self.networks.device, self.networks.dtype
        self.codec, self.denoiser, self.lora = self.networks.codec, self.networks.denoiser, self.networks.lora
        self.say(config.prompt)
        self.sampler = Sampler(config.sampler, Schedule(config.schedule))
        self.steps = len(self.sampler.plan)
        self.show_nobody()

    @property
    def files(self) -> dict[str, Path]:
        """The weights that were loaded, for provenance."""
        return self.networks.files

    @property
    def notes(self) -> list[str]:
        """What is asked for and not done, a line each."""
        if NEGATIVE_VISUAL in self.sampler.branches and self.degraded_tokens is None:
            return [
                "the negative visual stream (sampler.negative_visual) is left out: it needs an image prompt, that is "
                "a reference and weights.adapter"
            ]
        return []

    @torch.no_grad()
    def say(self, prompt: PromptConfig) -> None:
        """Restore by these words from now on: ``positive`` and ``negative`` as they stand."""
        words = self.networks.text_encoder([prompt.positive, prompt.negative])
        self.text, self.negative_text = (w[None].to(self.device, self.dtype) for w in words)
        self.config = replace(self.config, prompt=prompt)

    @torch.no_grad()
    def show_nobody(self) -> None:
        """Restore without a reference from now on; what the network then sees ``image_prompt.without`` says.

        Raises:
            UserError: an unknown name, else as :meth:`show_references`.
        """
        self.image_tokens: Tensor | None = None
        self.degraded_tokens: Tensor | None = None
        self.shows_references = False
        without = self.config.image_prompt.without
        if without not in ("none", "nobody"):
            raise UserError(f"image_prompt.without '{without}' is unknown: use none or nobody")
        if without == "nobody" and self.networks.image_prompt() is not None:
            self.image_tokens = self.networks.image_prompt().nobody().to(self.dtype)

    @contextmanager
    def showing_nobody(self) -> Iterator[None]:
        """Inside the block restore without a reference; afterwards the references are shown again."""
        shown = self.image_tokens, self.degraded_tokens, self.shows_references
        self.show_nobody()
        try:
            yield
        finally:
            self.image_tokens, self.degraded_tokens, self.shows_references = shown

    @torch.no_grad()
    def show_references(self, faces: Sequence[np.ndarray]) -> Tensor | None:
        """Give every clip from now on these pictures of the person as its image prompt (Section 3.2, Eq. 4).

        Where the guider has a negative visual stream (Eq. 12), their degraded likes are its image prompt.

        Args:
            faces: aligned crops (size, size, 3), uint8 RGB, size = ``video.size``.

        Returns:
            the image tokens (1, N, D); None where ``weights.adapter`` is empty, and nothing has changed.

        Raises:
            UserError: as :func:`ipfvr.models.backbone.make_image_prompt`.
        """
        if self.networks.image_prompt() is None:
            return None
        self.image_tokens, self.shows_references = self._tokens(np.stack(faces)), True
        if NEGATIVE_VISUAL in self.sampler.branches:
            self.degraded_tokens = self._tokens(
                np.concatenate([degraded_reference(face, self.config) for face in faces])
            )
        return self.image_tokens

    def _tokens(self, faces: np.ndarray) -> Tensor:
        pixels = resize(to_tensor(faces).to(self.device), self.config.video.size)
        return self.networks.image_prompt()(pixels).to(self.dtype)

    @torch.no_grad()
    def restore_clip(
        self,
        low: np.ndarray,
        frames: Sequence[int],
        progress: Progress | None = None,
        memory: ClipMemory | None = None,
        context: int = 0,
    ) -> np.ndarray:
        """Restore one clip.

        Args:
            low: (F, h, w, 3) uint8 RGB square low-quality crops of any size.
            frames: the F frames' absolute indices in the video, which key the noise.
            progress: called with 1 after each solver step.
            memory: of the clips before it in its segment, which are blended into it (Eq. 10), and to which it is added;
                None: it is restored by itself.
            context: its first frames, which the clip before has too and keeps.

        Returns:
            (F, size, size, 3) uint8 RGB, size = ``video.size``.
        """
        size, unit = self.config.video.size, self.config.vae.frames_per_chunk
        parts = [resize(to_tensor(low[i : i + unit]).to(self.device), size) for i in range(0, len(low), unit)]
        z_lq = torch.cat([self.codec.encode(part) for part in parts])
        z = self.sampler.restore_latent(
            self.denoiser,
            z_lq.transpose(0, 1)[None],
            self.text,
            self.negative_text,
            list(frames),
            self.config.seed,
            self.config.video.scale,
            image_tokens=self.image_tokens,
            degraded_tokens=self.degraded_tokens,
            clip=self.long_video.noise_key(frames),
            between=None if memory is None else lambda i, s: self.long_video.blend(s, i, memory, context),
            progress=(lambda done, total: progress(1)) if progress else None,
        )
        pairs = zip(z[0].transpose(0, 1).split(unit), z_lq.split(unit), parts, strict=True)
        return np.concatenate([to_frames(self._pixels(*three)) for three in pairs])

    def _pixels(self, z: Tensor, z_lq: Tensor, low: Tensor) -> Tensor:
        """Frames of restored latents z (F, C, h, w): (F, 3, size, size).

        Where a difference of latents is diffused (``sampler.residual_scale``), the frames ``low`` change by what it
        means in pixels, so that what the codec cannot hold of a good clip stays.
        """
        decoded = self.codec.decode(z)
        return decoded + low - self.codec.decode(z_lq) if self.config.sampler.residual_scale else decoded

    def restore_stream(
        self,
        crops: Iterable[tuple[int, np.ndarray]],
        windows: Sequence[ClipWindow],
        progress: Progress | None = None,
        memory: ClipMemory | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Restore crops as they come; at most a clip of them is held.

        To be able to go on after an end, give a memory and save it whenever all frames of a clip have come out::

            for index, frame in restorer.restore_stream(crops, windows, memory=memory):
                ...
                if index + 1 == memory.next_frame:
                    memory.save(path)

        and later give the same windows, ``ClipMemory.load(path)`` and crops from ``windows[memory.done].start`` on: the
        frames from ``memory.next_frame`` on come out as they would have.

        Args:
            crops: (absolute index, (h, w, 3) uint8 square crop), indices rising; all that ``windows`` cover are there.
            windows: in order, see :func:`ipfvr.diffusion.long_video.plan_windows`.
            progress: called with 1 after each solver step.
            memory: of the clips that are done, see above; None: of none.

        Yields:
            (absolute index, (size, size, 3) uint8) for every frame that a window keeps, rising.

        Raises:
            UserError: a memory of other windows.
        """
        memory = ClipMemory() if memory is None else memory
        parts = self.long_video.parts(windows)
        if memory.done > len(parts) or (memory.done and memory.next_frame != parts[memory.done - 1][1]):
            raise UserError(
                f"what is remembered of {memory.done} clips does not belong to these {len(parts)}: the video or an "
                "option has changed; start it afresh"
            )
        held: dict[int, np.ndarray] = {}
        source = iter(crops)
        for window, part in zip(windows[memory.done :], parts[memory.done :], strict=True):
            wanted = range(window.start, window.stop)
            held = {i: crop for i, crop in held.items() if i >= window.start}
            while window.stop - 1 not in held:
                index, crop = next(source)
                if index >= window.start:
                    held[index] = crop
            context = window.keep_start - window.start
            if not context:
                memory.forget()
            restored = self.restore_clip(np.stack([held[i] for i in wanted]), wanted, progress, memory, context)
            finished = self.long_video.join(restored, window, part, memory)
            memory.done, memory.next_frame = memory.done + 1, part[1]
            yield from zip(range(*part), finished, strict=True)


def segments_of(scenes: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of every run of equal numbers >= 0 in a track's ``scenes`` (F,)."""
    borders = [0, *(np.flatnonzero(np.diff(scenes)) + 1).tolist(), len(scenes)]
    return [(a, b) for a, b in pairwise(borders) if a < b and scenes[a] >= 0]
