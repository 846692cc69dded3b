"""The restorer of face crops, which works clip by clip at constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ipfvr.core.choices import WithoutReference
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config, PromptConfig
from ipfvr.core.pixels import resize, to_frames, to_tensor
from ipfvr.degradation.reference import degraded_reference
from ipfvr.diffusion.conditions import Conditions
from ipfvr.diffusion.guidance import NEGATIVE_VISUAL
from ipfvr.diffusion.long_video import ClipMemory, make_long_video
from ipfvr.diffusion.sampler import LatentClip, Sampler
from ipfvr.diffusion.schedule import Schedule
from ipfvr.models.networks import Networks
from ipfvr.video.clips import ClipWindow

Progress = Callable[[int], None]


class Restorer:
    """Restores clips with the networks of a configuration; it has no state and can restore any number of people.

    Each call takes the conditions of the person, see :class:`~ipfvr.diffusion.conditions.Conditions`::

        restorer = Restorer(config)
        sharp = restorer.restore(low, restorer.conditions([reference]))

    Attributes:
        config: the configuration.
        networks: see :class:`~ipfvr.models.networks.Networks`; a person's LoRA is merged into them.
        sampler: takes the solver steps.
        long_video: connects the clips of a video.
    """

    def __init__(self, config: Config, networks: Networks | None = None) -> None:
        """Make the restorer of a configuration.

        Args:
            config: the configuration.
            networks: networks with the same weights, to share them with other restorers; None: they are loaded.

        Raises:
            UserError: as :class:`~ipfvr.models.networks.Networks`, or an option has an invalid value.
        """
        self.config = config
        self.long_video = make_long_video(config.long_video, config.video.overlap)
        self.networks = Networks(config) if networks is None else networks
        self.sampler = Sampler(config.sampler, Schedule(config.schedule))

    @property
    def steps(self) -> int:
        """The number of solver steps for one clip."""
        return len(self.sampler.plan)

    @torch.no_grad()
    def conditions(self, references: Sequence[np.ndarray] = (), prompt: PromptConfig | None = None) -> Conditions:
        """Embed the words and pictures of a person for the network (Section 3.2, Eq. 4 and 12).

        The pictures are used only with ``weights.adapter``. If the guider has a negative visual stream, its image
        prompt comes from the degraded pictures. Without pictures ``image_prompt.without`` chooses the image prompt.

        Args:
            references: aligned crops (size, size, 3) of the person, uint8 RGB, size = ``video.size``.
            prompt: the prompts ``positive`` and ``negative``, used unchanged; None: the configuration's.

        Raises:
            UserError: as :func:`ipfvr.models.backbone.make_image_prompt`.
        """
        networks, prompt = self.networks, self.config.prompt if prompt is None else prompt
        words = networks.text_encoder([prompt.positive, prompt.negative])
        text, negative_text = (w[None].to(networks.device, networks.dtype) for w in words)
        image_tokens = degraded_tokens = None
        used = len(references) if len(references) and networks.image_prompt() is not None else 0
        if used:
            image_tokens = self._tokens(np.stack(references))
            if NEGATIVE_VISUAL in self.sampler.branches:
                degraded = [degraded_reference(face, self.config) for face in references]
                degraded_tokens = self._tokens(np.concatenate(degraded))
        elif self.config.image_prompt.without == WithoutReference.nobody and networks.image_prompt() is not None:
            image_tokens = networks.image_prompt().nobody().to(networks.dtype)
        return Conditions(text, negative_text, image_tokens, degraded_tokens, used)

    def left_out(self, conditions: Conditions) -> list[str]:
        """Return notes on what the configuration requests but these conditions do not allow, one line each."""
        if NEGATIVE_VISUAL in self.sampler.branches and conditions.degraded_tokens is None:
            return [
                "the negative visual stream (sampler.negative_visual) is left out: it needs an image prompt, and so "
                "a reference and weights.adapter"
            ]
        return []

    def _tokens(self, faces: np.ndarray) -> Tensor:
        networks = self.networks
        pixels = resize(to_tensor(faces).to(networks.device), self.config.video.size)
        return networks.image_prompt()(pixels).to(networks.dtype)

    @torch.no_grad()
    def restore(
        self,
        low: np.ndarray,
        conditions: Conditions,
        frames: Sequence[int] | None = None,
        *,
        seed: int | None = None,
        progress: Progress | None = None,
        memory: ClipMemory | None = None,
        context: int = 0,
    ) -> np.ndarray:
        """Restore one clip.

        Args:
            low: (F, h, w, 3) uint8 RGB square low-quality crops of any size.
            conditions: the conditions of the person, see :meth:`conditions`.
            frames: the F frames' absolute indices in the video, which key the noise; None: 0 to F - 1.
            seed: the seed of the noise; None: the configuration's.
            progress: called with 1 after each solver step.
            memory: the memory of earlier clips in the segment, which are blended into this one (Eq. 10); this clip is
                added to it. None: the clip is restored independently.
            context: the number of its first frames that belong to the clip before.

        Returns:
            (F, size, size, 3) uint8 RGB, size = ``video.size``.
        """
        size, unit = self.config.video.size, self.config.vae.frames_per_chunk
        networks, frames = self.networks, range(len(low)) if frames is None else frames
        parts = [resize(to_tensor(low[i : i + unit]).to(networks.device), size) for i in range(0, len(low), unit)]
        z_lq = torch.cat([networks.codec.encode(part) for part in parts])
        clip = LatentClip(
            z_lq.transpose(0, 1)[None],
            list(frames),
            self.config.seed if seed is None else seed,
            self.config.video.scale,
            noise_key=self.long_video.noise_key(frames),
        )
        z = self.sampler.restore_latent(
            networks.denoiser,
            clip,
            conditions,
            between=None if memory is None else lambda i, s: self.long_video.blend(s, i, memory, context),
            progress=(lambda done, total: progress(1)) if progress else None,
        )
        pairs = zip(z[0].transpose(0, 1).split(unit), z_lq.split(unit), parts, strict=True)
        return np.concatenate([to_frames(self._pixels(*three)) for three in pairs])

    def _pixels(self, z: Tensor, z_lq: Tensor, low: Tensor) -> Tensor:
        """Decode restored latents z (F, C, h, w) to frames (F, 3, size, size).

        With ``sampler.residual_scale`` the sampler restores a difference of latents. The frames ``low`` then change by
        the decoded difference, so that details which the codec would lose are kept.
        """
        codec = self.networks.codec
        decoded = codec.decode(z)
        return decoded + low - codec.decode(z_lq) if self.config.sampler.residual_scale else decoded

    def restore_stream(
        self,
        crops: Iterable[tuple[int, np.ndarray]],
        windows: Sequence[ClipWindow],
        conditions: Conditions,
        *,
        seed: int | None = None,
        progress: Progress | None = None,
        memory: ClipMemory | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Restore a stream of crops; at most one clip is held in memory.

        To resume after an interruption, pass a memory and save it whenever all frames of a clip have been returned::

            for index, frame in restorer.restore_stream(crops, windows, conditions, memory=memory):
                ...
                if index + 1 == memory.next_frame:
                    memory.save(path)

        and later pass the same windows, ``ClipMemory.load(path)`` and crops from ``windows[memory.done].start`` on. The
        frames from ``memory.next_frame`` on are then the same as without the interruption.

        Args:
            crops: (absolute index, (h, w, 3) uint8 square crop) of every frame of ``windows``, in rising order.
            windows: in order, see :func:`ipfvr.diffusion.long_video.plan_windows`.
            conditions: the conditions of the person, see :meth:`conditions`.
            seed: the seed of the noise; None: the configuration's.
            progress: called with 1 after each solver step.
            memory: the memory of the finished clips, see above; None: no clip is finished.

        Yields:
            (absolute index, (size, size, 3) uint8) for every frame that a window keeps, in rising order.

        Raises:
            UserError: the memory belongs to other windows.
        """
        memory = ClipMemory() if memory is None else memory
        parts = self.long_video.parts(windows)
        if memory.done > len(parts) or (memory.done and memory.next_frame != parts[memory.done - 1][1]):
            raise UserError(
                f"the memory of {memory.done} clips does not belong to these {len(parts)} clips: the video or an "
                "option has changed; restore the video from the beginning"
            )
        held: dict[int, np.ndarray] = {}
        source = iter(crops)
        for window, part in zip(windows[memory.done :], parts[memory.done :], strict=True):
            frames = range(window.start, window.stop)
            held = {i: crop for i, crop in held.items() if i >= window.start}
            while window.stop - 1 not in held:
                index, crop = next(source)
                if index >= window.start:
                    held[index] = crop
            context = window.keep_start - window.start
            if not context:
                memory.forget()
            low = np.stack([held[i] for i in frames])
            restored = self.restore(
                low, conditions, frames, seed=seed, progress=progress, memory=memory, context=context
            )
            finished = self.long_video.join(restored, window, part, memory)
            memory.done, memory.next_frame = memory.done + 1, part[1]
            yield from zip(range(*part), finished, strict=True)
