"""Films to test whole jobs with: people side by side and one after the other, cuts, faceless stretches, sound."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from people import texture
from videos import CLIPS

from ipfvr.faces.align import face_template
from ipfvr.faces.detect import Face
from ipfvr.video.reader import VideoReader

SIZE = (640, 360)  # of films of real people
SIDE, SHARE = 48, 0.8  # of a half of a synthetic film's frame, pixels; of its face square
COLOURS = {"red": (200, 60, 60), "blue": (60, 60, 200), "green": (60, 180, 60)}


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


class HalvesDetector:
    """A face in the middle of the left and of the right half of a frame, each where its half is not dark."""

    name = "halves"

    def __init__(self) -> None:
        self.weights: dict[str, Path] = {}

    def detect(self, image: np.ndarray) -> list[Face]:
        height, width = image.shape[0], image.shape[1] // 2
        faces = []
        for half in (0, 1):
            if image[:, half * width : (half + 1) * width].mean() < 30:
                continue
            side = SHARE * height
            corner = np.array([half * width + (width - side) / 2, (height - side) / 2])
            points = (face_template(1) * side + corner).astype(np.float32)
            faces.append(Face(np.array([*corner, side, side], np.float32), 1.0, points))
        return faces

    def follow(self, image: np.ndarray, face: Face) -> None:
        """Never certain."""


def shots(*shown: tuple[str, str, int], side: int = SIDE) -> list[np.ndarray]:
    """Shots of (left, right, frames), each half a colour's texture or ``dark``: frames (side, 2 side, 3)."""
    images: list[np.ndarray] = []
    for number, (left, right, count) in enumerate(shown):
        halves = [
            np.full((count, side, side, 3), 8, np.uint8)
            if name == "dark"
            else texture(count, side, COLOURS[name], 2 * number + place)
            for place, name in enumerate((left, right))
        ]
        images += list(np.concatenate(halves, axis=2))
    return images


def picture_of(path: Path, colour: str, detectable: int = SIDE) -> Path:
    """A reference picture of a colour: one face, in the left half."""
    write_png(path, shots((colour, "dark", 1), side=detectable)[0])
    return path


def write_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB."""
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def write_film(
    path: Path,
    images: Sequence[np.ndarray],
    times: Sequence[int] | None = None,
    sound: bool = True,
    sound_seconds: float | None = None,
    metadata: dict[str, str] | None = None,
    chapters: Sequence[tuple[int, str]] = (),
    words: Path | None = None,
) -> Path:
    """A film made by PyAV alone: times (of 1/600 s), sound of any length, title, chapters, subtitles of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, 600)
    with ExitStack() as stack:
        container = stack.enter_context(av.open(str(path), "w"))
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
        said = stack.enter_context(av.open(str(words))) if words else None
        lines = container.add_stream_from_template(said.streams.subtitles[0]) if said else None
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
        for packet in said.demux(said.streams.subtitles[0]) if said else ():
            if packet.dts is not None:
                packet.stream = lines
                container.mux(packet)
    return path


def times_of(path: Path) -> list[Fraction]:
    """When each frame is shown, seconds."""
    reader = VideoReader(path)
    return [frame.pts * reader.info.time_base for frame in reader]
