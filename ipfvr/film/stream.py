"""Restored frames in order: all faces advance together, frames are held no longer than the longest open clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Protocol

import cv2
import numpy as np

from ipfvr.core.options import Config
from ipfvr.core.pixels import resize_frames
from ipfvr.diffusion.long_video import ClipMemory
from ipfvr.faces.align import enlarged
from ipfvr.faces.paste import paste
from ipfvr.film.plan import Plan, Presence
from ipfvr.restoration.person import PersonRestorer
from ipfvr.video.reader import VideoReader

Numbered = Iterator[tuple[int, np.ndarray]]
Restore = Callable[[Numbered], Numbered]  # from low-quality crops, with their frames' numbers, to restored ones


class Canvas(Protocol):
    """A strategy that makes an output frame from a source frame and its restored faces."""

    width: int
    height: int

    def compose(self, image: np.ndarray, faces: list[Restored]) -> np.ndarray:
        """Compose a frame (H, W, 3) and its faces to an output frame (height, width, 3), uint8."""
        ...


class Restored:
    """One restored face of one frame: the crops before and after, and their transform (None: the whole frame)."""

    def __init__(self, image: np.ndarray, low: np.ndarray, matrix: np.ndarray | None) -> None:
        self.image, self.low, self.matrix = image, low, matrix


class Frames:
    """Whole frames, enlarged by ``scale``, onto which the change of each face is pasted in turn.

    Args:
        width, height: the size of the source's frames.
        scale: the factor by which frames are enlarged.
        strength: share of the change that is applied, 0 to 1.
    """

    def __init__(self, width: int, height: int, scale: int = 1, strength: float = 1.0) -> None:
        self.scale, self.width, self.height, self.strength = scale, width * scale, height * scale, strength

    def compose(self, image: np.ndarray, faces: list[Restored]) -> np.ndarray:
        """See :class:`Canvas`. Pixels outside the faces are those of ``image`` (by Lanczos if enlarged)."""
        if self.scale > 1:
            image = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_LANCZOS4)
        for face in faces:
            image = paste(image, face.image, face.low, enlarged(face.matrix, self.scale), self.strength)
        return image


class Square:
    """The restored face crop alone; a frame without the face is shrunk into the square.

    Args:
        size: the side of the square, pixels.
        strength: share of the change that is applied, 0 to 1.
    """

    def __init__(self, size: int, strength: float = 1.0) -> None:
        self.width = self.height = size
        self.strength = strength

    def compose(self, image: np.ndarray, faces: list[Restored]) -> np.ndarray:
        """See :class:`Canvas`."""
        if not faces:
            return letterbox(image, self.width)
        face = faces[0]
        low = resize_frames(face.low[None], self.width)[0]  # an aligned crop may have another size
        return cv2.addWeighted(face.image, self.strength, low, 1 - self.strength, 0)


class FilmStream:
    """The output frames of a plan from one frame on, restored and composed.

    Args:
        reader: the source.
        plan: which person is restored where.
        people: the restorer of each person in the plan, by name.
        canvas: makes the output frames.
        config: gives F, O and the size of the aligned crop.
        start: the first output frame.
        progress: called with 1 after each solver step.
        memories: the :meth:`memories` of an earlier stream after the frame before ``start``; a presence without one
            begins with its first clip.

    Attributes:
        clips: the number of clips to restore.
        source: the source frame (H, W, 3) of the last call of :meth:`next`; None: there was no call.
    """

    def __init__(
        self,
        reader: VideoReader,
        plan: Plan,
        people: Mapping[str, PersonRestorer],
        canvas: Canvas,
        config: Config,
        start: int,
        progress: Callable[[int], None],
        memories: Mapping[int, ClipMemory] | None = None,
    ) -> None:
        self._canvas, self._next, self.clips = canvas, start, 0
        self.source: np.ndarray | None = None
        opened = []
        for number, presence in enumerate(plan.presences):
            if presence.stop > start:
                windows, memory = plan.windows(presence, config), (memories or {}).get(number, ClipMemory())
                self.clips += len(windows) - memory.done
                opened.append((number, presence, windows, memory))
        self._feed = _Feed(reader, min([start, *(w[m.done].start for _, _, w, m in opened)]))
        self._faces = []
        for number, presence, windows, memory in opened:
            restore = partial(people[presence.who].restore_stream, windows=windows, progress=progress, memory=memory)
            first = windows[memory.done].start
            self._faces.append(_Face(number, presence, restore, first, memory, self._feed, config.video.size))

    def memories(self) -> dict[int, ClipMemory]:
        """Return the memory of each unfinished presence, by its number in the plan."""
        return {face.number: face.memory for face in self._faces if face.memory.done}

    def next(self) -> tuple[np.ndarray, int]:
        """Return the next output frame (height, width, 3) and its time in units of the source's time base."""
        index, self._next = self._next, self._next + 1
        # The nearer of two faces that overlap is the larger one, and is pasted last.
        seen = [face for face in self._faces if face.presence.start <= index < face.presence.stop]
        restored = [face.restored(index) for face in sorted(seen, key=lambda face: face.presence.area)]
        self._faces = [face for face in self._faces if face.presence.stop > index + 1]
        self.source, pts = self._feed.take(index)
        return self._canvas.compose(self.source, restored), pts


class _Feed:
    """Source frames that are read once, shared by all faces, and held until they are taken."""

    def __init__(self, reader: VideoReader, start: int) -> None:
        self._frames = reader.frames(start)
        self._held: dict[int, tuple[np.ndarray, int]] = {}

    def image(self, index: int) -> np.ndarray:
        while index not in self._held:
            frame = next(self._frames)
            self._held[frame.index] = (frame.image, frame.pts)
        return self._held[index][0]

    def take(self, index: int) -> tuple[np.ndarray, int]:
        """Return a frame and its time, and release it and all earlier frames."""
        self.image(index)
        taken = self._held[index]
        self._held = {i: held for i, held in self._held.items() if i > index}
        return taken


class _Face:
    """The restored crops of one presence, restored clip by clip on demand.

    Attributes:
        number: the number of the presence in the plan.
        presence: the presence.
        memory: the memory after the last clip whose frames have all been returned.
    """

    def __init__(
        self, number: int, presence: Presence, restore: Restore, start: int, memory: ClipMemory, feed: _Feed, size: int
    ) -> None:
        self.number, self.presence, self.memory = number, presence, memory.copy()
        self._feed, self._size, self._running = feed, size, memory
        self._lows: dict[int, np.ndarray] = {}
        self._squares = restore(self._crops(start))

    def restored(self, index: int) -> Restored:
        """Return the restored face of frame ``index``; calls come in rising order of frames."""
        number = -1
        while number < index:
            number, image = next(self._squares)
            if number + 1 == self._running.next_frame:
                self.memory = self._running.copy()
        low = self._lows.pop(index)
        self._lows = {i: kept for i, kept in self._lows.items() if i > index}
        return Restored(image, low, self.presence.matrix(index, self._size))

    def _crops(self, start: int) -> Numbered:
        for index in range(start, self.presence.stop):
            self._lows[index] = self.presence.low(index, self._feed.image(index), self._size)
            yield index, self._lows[index]


def letterbox(image: np.ndarray, size: int) -> np.ndarray:
    """Shrink a whole frame into a black square of ``size``, for a frame without a face."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = np.zeros((size, size, 3), np.uint8)
    top, left = (size - inner[1]) // 2, (size - inner[0]) // 2
    square[top : top + inner[1], left : left + inner[0]] = small
    return square
