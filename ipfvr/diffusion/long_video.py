"""Long videos (Section 3.4): the connection of the clips of a video, and the memory that it needs.

Noise sharing (Eq. 9) is in :mod:`ipfvr.diffusion.noise`. Exponential blending (Eq. 10) replaces the first frames of a
clip by frames of up to s earlier clips. These first frames are shared with the clip before and are not kept: they are
context for the temporal layers. Blending follows every solver step but the last, after which nothing reads the context;
the start is already shared through the noise. With one step (``sampler.steps=1``) blending changes nothing.

The solver's state is blended: z_t in its variance-exploding view, where all clips have the same noise level, and the
z_0 estimate of the step before, which a multi-step solver continues from and which must show the same frames. With
``sampler.residual_scale`` the state is the difference to the low-quality latent, so a frame of another moment
contributes its correction and not its content.

A last clip that starts earlier has a context of O' > O frames. The equation does not cover this case. Here its O - 1
positions lie in the last O frames of the context, O' - O + 1 to O' - 1, so that the frames of clip i-1 lie over the
same frames of the video as in every other clip. A clip never sees another segment (a scene or a face's presence).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ipfvr.core.choices import Blending
from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic
from ipfvr.core.options import Config, LongVideoConfig
from ipfvr.core.shapes import Float, UInt8
from ipfvr.diffusion.solvers import State
from ipfvr.video.clips import ClipWindow, clip_windows

_EQUATION_10 = (Blending.exponential, Blending.aligned)
_FORMAT = "ipfvr clip memory 1"


def exponential_blending(
    z: Float[Tensor, "b c f h w"], earlier: Sequence[Float[Tensor, "b c _ h w"] | None], context: int, shift: int = 0
) -> Float[Tensor, "b c f h w"]:
    """Apply Eq. 10: z_t^{1:O-1}(i) = stack([z_t^{F-2^j+1:F}(i-s+j)]_{j=0}^{s-1}), where 2^s = O.

    Clip i-s contributes its last frame, the next clip its last two, and clip i-1 its last O / 2. With the literal
    equation the frames of clip i-1 lie one frame too early: for O = 8 its frames 21-24 lie over its own 20-23.

    Args:
        z: (B, C, F, h, w) latent of clip i after a solver step.
        earlier: s latents (B, C, >= O / 2 + shift, h, w), those of clips i-s to i-1 after the same step, or as many of
            their last frames; None: there is no such clip, and its positions stay unchanged.
        context: O', the number of frames that clip i shares with clip i-1; O unless a last clip starts earlier.
        shift: how many frames earlier all frames are taken; 1 aligns those of clip i-1 with the video.

    Returns:
        (B, C, F, h, w), a copy.

    Examples:
        >>> z, before = torch.zeros(1, 1, 6, 1, 1), torch.arange(6.0).view(1, 1, 6, 1, 1)
        >>> exponential_blending(z, [10 + before, before], context=4).flatten()  # O = 4, s = 2
        tensor([15.,  4.,  5.,  0.,  0.,  0.])
    """
    z = z.clone()
    first = context - 2 ** len(earlier)
    for j, frames in enumerate(earlier):
        if frames is not None:
            stop = frames.shape[2] - shift
            z[:, :, first + 2**j - 1 : first + 2 ** (j + 1) - 1] = frames[:, :, stop - 2**j : stop]
    return z


def cross_fade(
    before: UInt8[np.ndarray, "n h w 3"], after: UInt8[np.ndarray, "n h w 3"]
) -> UInt8[np.ndarray, "n h w 3"]:
    """Fade linearly from one clip's restored frames to the next one's: the p-th of n frames mixes (n + 1 - p) : p.

    Args:
        before: (n, H, W, 3) uint8, the last frames of a clip.
        after: the same frames of the video, from the next clip.

    Examples:
        >>> cross_fade(np.zeros((3, 1, 1, 3), np.uint8), np.full((3, 1, 1, 3), 80, np.uint8))[:, 0, 0, 0].tolist()
        [20, 40, 60]
    """
    share = (np.arange(1, len(after) + 1, dtype=np.float32) / (len(after) + 1))[:, None, None, None]
    return np.rint((1 - share) * before + share * after).astype(np.uint8)


@dataclass
class ClipMemory:
    """The memory of earlier clips that later clips of a video need; its size does not depend on the number of clips.

    A memory that was saved when all frames of a clip had been returned lets another process continue with the next clip
    and give the same frames.

    Attributes:
        done: the number of restored clips.
        next_frame: the frame after the last returned one, once all frames of a clip have been returned.
        steps: for each blended solver step the last frames of up to s clips' states, the oldest clip first.
        tail: (n, H, W, 3) uint8 restored frames that are faded into the next clip's frames, or None.
    """

    done: int = 0
    next_frame: int = 0
    steps: list[list[State]] = field(default_factory=list)
    tail: np.ndarray | None = None

    def forget(self) -> None:
        """Begin a new segment, which does not see earlier ones."""
        self.steps, self.tail = [], None

    def states(self, step: int) -> list[State]:
        """Return the states of earlier clips after a solver step, the oldest first."""
        return self.steps[step] if step < len(self.steps) else []

    def remember(self, step: int, state: State, clips: int) -> None:
        """Add a clip's state after a solver step and delete what is older than ``clips`` clips."""
        self.steps += [[] for _ in range(step + 1 - len(self.steps))]
        self.steps[step] = [*self.steps[step], state][-clips:]

    def copy(self) -> ClipMemory:
        """Return a copy that later additions do not change; the tensors are shared."""
        return replace(self, steps=[list(states) for states in self.steps])

    @property
    def size(self) -> int:
        """The size of the memory in bytes."""
        states = [s for states in self.steps for s in states]
        held = [t for s in states for t in (s.x, s.denoised) if t is not None]
        return sum(t.nbytes for t in held) + (0 if self.tail is None else self.tail.nbytes)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, completely or not at all.

        Raises:
            UserError: the file cannot be written.
        """
        tensors = {} if self.tail is None else {"tail": torch.from_numpy(self.tail)}
        for step, states in enumerate(self.steps):
            for clip, state in enumerate(states):
                for name, value in (("x", state.x), ("denoised", state.denoised)):
                    if value is not None:
                        tensors[f"{step}.{clip}.{name}"] = value.cpu().contiguous()
        numbers = {"format": _FORMAT, "done": str(self.done), "next_frame": str(self.next_frame)}
        with atomic(path) as temporary:
            save_file(tensors, temporary, metadata=numbers)

    @classmethod
    def load(cls, path: str | Path) -> ClipMemory:
        """Load a file that :meth:`save` wrote, to the CPU.

        Raises:
            UserError: the file is missing, damaged or of another kind.
        """
        try:
            with safe_open(path, framework="pt") as file:
                numbers = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path} cannot be read as a clip memory: {error}; restore the video from the beginning"
            ) from None
        if numbers.get("format") != _FORMAT:
            raise UserError(f"{path} is not a clip memory of this version; restore the video from the beginning")
        tail = tensors.pop("tail", None)
        memory = cls(int(numbers["done"]), int(numbers["next_frame"]), tail=None if tail is None else tail.numpy())
        for step, clip in sorted({tuple(map(int, name.split(".")[:2])) for name in tensors}):
            state = State(tensors[f"{step}.{clip}.x"], tensors.get(f"{step}.{clip}.denoised"))
            memory.remember(step, state, clip + 1)
        return memory


@dataclass(frozen=True)
class LongVideo:
    """The connection between the clips of a video.

    Attributes:
        blending: see :class:`ipfvr.core.options.LongVideoConfig`.
        noise_sharing: whether clips share noise (Eq. 9); False: every clip has its own noise.
        overlap: O.
    """

    blending: Blending
    noise_sharing: bool
    overlap: int

    @property
    def reach(self) -> int:
        """s of Eq. 10: the number of earlier clips that are blended into a clip; 0 without exponential blending."""
        return max(self.overlap.bit_length() - 1, 0) if self.blending in _EQUATION_10 else 0

    def depends(self, steps: int) -> bool:
        """Return whether a clip's frames depend on the clips before it, given the number of solver steps."""
        return self.overlap > 0 and (self.blending == Blending.cross_fade or (self.reach > 0 and steps > 1))

    def noise_key(self, frames: Sequence[int]) -> int | None:
        """Return the key of a clip's own noise, its first frame; None: clips share noise."""
        return None if self.noise_sharing else int(frames[0])

    def blend(self, state: State, step: int, memory: ClipMemory, context: int) -> State:
        """Apply Eq. 10 to a clip's state after a solver step, and add the state to the memory for later clips.

        Args:
            state: the state of the clip.
            step: the solver step that was taken.
            memory: the memory of the clips before; this clip's last frames are added to it.
            context: the number of frames of the clip that are not kept.
        """
        if not self.reach:
            return state
        before, shift = memory.states(step), int(self.blending == Blending.aligned)
        missing = [None] * (self.reach - len(before))

        def blended(own: Tensor | None, earlier: list[Tensor | None]) -> Tensor | None:
            return None if own is None else exponential_blending(own, missing + earlier, context, shift)

        state = State(blended(state.x, [s.x for s in before]), blended(state.denoised, [s.denoised for s in before]))
        last = self.overlap // 2 + shift
        # The frames are copied, because a slice would keep the whole clip in memory.
        kept = (None if z is None else z[:, :, -last:].clone() for z in (state.x, state.denoised))
        memory.remember(step, State(*kept), self.reach)
        return state

    def parts(self, windows: Sequence[ClipWindow]) -> list[tuple[int, int]]:
        """Return (start, stop) of the frames that each clip completes; together they are all frames, each once.

        With a cross-fade the next clip completes a clip's last frames, because they are faded into it.
        """
        if self.blending != Blending.cross_fade:
            return [(w.keep_start, w.stop) for w in windows]
        ends = [after.start if after.start < after.keep_start else w.stop for w, after in pairwise(windows)]
        return [(w.start, end) for w, end in zip(windows, [*ends, *(w.stop for w in windows[-1:])], strict=True)]

    def join(self, restored: np.ndarray, window: ClipWindow, part: tuple[int, int], memory: ClipMemory) -> np.ndarray:
        """Return the frames of a restored clip that are final.

        Args:
            restored: (F, H, W, 3) uint8.
            window: the window of the clip.
            part: the (start, stop) of the clip from :meth:`parts`.
            memory: holds the frames to fade from, and gets those that the next clip fades from.
        """
        if memory.tail is not None:
            shared = len(memory.tail)
            restored = np.concatenate([cross_fade(memory.tail, restored[:shared]), restored[shared:]])
        memory.tail = restored[part[1] - window.start :].copy() if part[1] < window.stop else None
        return restored[part[0] - window.start : part[1] - window.start]


def make_long_video(config: LongVideoConfig, overlap: int) -> LongVideo:
    """Make the :class:`LongVideo` of a configuration.

    Args:
        config: the options.
        overlap: O, ``video.overlap``.

    Raises:
        UserError: Eq. 10 has no s for this overlap.
    """
    long_video = LongVideo(Blending(config.blending), config.noise_sharing, overlap)
    if long_video.blending in _EQUATION_10 and overlap and overlap != 2**long_video.reach:
        raise UserError(
            f"video.overlap is {overlap}: long_video.blending {config.blending} needs a power of two (Eq. 10: 2^s = O) "
            "or 0; choose one, or long_video.blending cross_fade or none"
        )
    return long_video


def plan_windows(
    segments: Sequence[tuple[int, int]], config: Config, part: tuple[int, int] | None = None
) -> list[ClipWindow]:
    """Plan the clips of each segment: a scene or a face's presence, which is restored independently of the others.

    Clips never cross the end of a segment. They do not depend on ``part``, so a video that is restored in parts gives
    the same frames as at once. If a clip depends on earlier clips (``long_video.blending``), the windows of its part
    include all clips from the beginning of the segment, which also give frames before the part.

    Args:
        segments: (start, stop) of each segment in absolute frames, in rising order.
        config: gives F, O and the connection between clips.
        part: (start, stop) of the frames to restore; clips that they do not need are left out.

    Raises:
        UserError: the overlap does not fit the clips or the blending.
    """
    long_video = make_long_video(config.long_video, config.video.overlap)
    depends = long_video.depends(config.sampler.steps)
    windows: list[ClipWindow] = []
    for start, stop in segments:
        clips = [
            ClipWindow(start + w.start, start + w.stop, start + w.keep_start)
            for w in clip_windows(stop - start, config.video.clip_frames, config.video.overlap)
        ]
        for clip, (first, last) in zip(clips, long_video.parts(clips), strict=True):
            if part is None or (first < part[1] and part[0] < (stop if depends else last)):
                windows.append(clip)
    return windows
