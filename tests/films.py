"""Films to test whole jobs with: people side by side and one after the other, cuts, faceless stretches, sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from people import texture
from videos import CLIPS

from ipfvr.video.reader import VideoReader

SIZE = (640, 360)


def people_of(*names: str, frames: int, skip: int = 0, side: int = 300) -> list[np.ndarray]:
    """Frames ``skip`` on of the people's first real clips, side by side on a grey wall: each (360, 640, 3)."""
    columns = []
    for name in names:
        reader = VideoReader(sorted((CLIPS / name).glob("*.mp4"))[0])
        squares = []
        for frame in reader.frames(skip, skip + frames):
            height, width = frame.image.shape[:2]
            least = min(height, width)
            top, left = (height - least) // 4, (width - least) // 2
            square = frame.image[top : top + least, left : left + least]
            squares.append(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))
        columns.append(squares)
    shown = []
    for index in range(frames):
        image = np.full((SIZE[1], SIZE[0], 3), 96, np.uint8)
        for number, squares in enumerate(columns):
            left = (2 * number + 1) * SIZE[0] // (2 * len(names)) - side // 2
            image[30 : 30 + side, left : left + side] = squares[index]
        shown.append(image)
    return shown


def landscape(frames: int, seed: int = 0) -> list[np.ndarray]:
    """A stretch without a face: clouds that drift."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(60, 200, (12, 40, 3), dtype=np.uint8), (SIZE[0] + 200, SIZE[1]))
    return [np.ascontiguousarray(coarse[:, t : t + SIZE[0]]) for t in range(frames)]


def synthetic_film(path: Path, frames: Sequence[tuple[str, int]], size: int = 48, sound: bool = True) -> Path:
    """Shots of one colour each, see :func:`people.texture`; ``dark`` has no face for :class:`people.StubDetector`."""
    colours = {"red": (200, 60, 60), "blue": (60, 60, 200), "green": (60, 180, 60)}
    images: list[np.ndarray] = []
    for number, (name, count) in enumerate(frames):
        if name == "dark":
            images += list(np.full((count, size, size, 3), 8, np.uint8))
        else:
            images += list(texture(count, size, colours[name], number))
    return write_film(path, images, sound=sound)


def write_film(
    path: Path,
    images: Sequence[np.ndarray],
    times: Sequence[int] | None = None,
    sound: bool = True,
    sound_seconds: float | None = None,
    metadata: dict[str, str] | None = None,
    chapters: Sequence[tuple[int, str]] = (),
    subtitles: str = "",
) -> Path:
    """A film made by PyAV alone: variable times (of 1/600 s), sound of any length, title, chapters, subtitles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, 600)
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        if chapters:
            ends = [start for start, _ in chapters[1:]] + [24 * len(images)]
            container.set_chapters(
                [
                    {"id": n, "start": start, "end": end, "time_base": base, "metadata": {"title": title}}
                    for n, ((start, title), end) in enumerate(zip(chapters, ends, strict=True))
                ]
            )
        stream = container.add_stream("libx264", rate=25, options={"crf": "4", "preset": "veryfast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = base
        track = container.add_stream("aac", rate=48_000) if sound else None
        words = container.add_stream(subtitles) if subtitles else None
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = (times[index] if times else 24 * index), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            seconds = len(images) / 25 if sound_seconds is None else sound_seconds
            wave = (8000 * np.sin(np.arange(int(seconds * 48_000)) / 20)).astype(np.int16)
            audio = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            audio.sample_rate, audio.pts = 48_000, 0
            container.mux(track.encode(audio))
            container.mux(track.encode(None))
        assert words is None or subtitles
    return path


def times_of(path: Path) -> list[Fraction]:
    """When each frame is shown, seconds."""
    reader = VideoReader(path)
    return [frame.pts * reader.info.time_base for frame in reader]
