"""Videos as streams of RGB frames, and pictures."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from ipfvr.errors import UserError
from ipfvr.video.colour import to_rgb

# In these every packet of a file with timestamps is one shown frame; with others only decoding tells.
_ONE_PACKET_ONE_FRAME = {"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "ffv1"}
_INDEXED_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
# Key of a file's metadata in which VideoWriter notes an odd size, "63x47".
SIZE_KEY = "ipfvr_size"


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its frames are read.

    Attributes:
        path: the file.
        width: of a frame as it is shown, after rotation, pixels.
        height: likewise.
        frames: exact number of frames that reading will give.
        rate: mean frame rate, frames a second.
        time_base: unit of ``Frame.pts``, seconds.
        duration: seconds from the first frame's start to the last one's end; None where the file has no timestamps.
        rotation: degrees counter-clockwise by which the stored frames are turned to be shown (display matrix): 0, 90,
            180 or 270.
        codec: name of the decoder's codec, such as ``h264``.
        pixel_format: FFmpeg's name, such as ``yuv420p10le``.
        bit_depth: bits of a sample: 8, 10, 12.
        has_audio: the file has sound.
        sample_aspect_ratio: width of a pixel to its height; frames are given as stored, not stretched.
    """

    path: Path
    width: int
    height: int
    frames: int
    rate: Fraction
    time_base: Fraction
    duration: float | None
    rotation: int
    codec: str
    pixel_format: str
    bit_depth: int
    has_audio: bool
    sample_aspect_ratio: Fraction = Fraction(1)


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        index: 0 for the first.
        pts: time at which it is shown, in units of ``VideoInfo.time_base``, from the start of the file.
        time: the same in seconds.
        image: (H, W, 3) uint8 RGB, turned the way it is shown.
        damaged: the decoder could not read it whole and made up what was missing; or (forgiving) it could not be
            decoded at all and is the frame before once more, or such frames before it are missing.
    """

    index: int
    pts: int
    time: float
    image: np.ndarray
    damaged: bool = False


class VideoReader:
    """A video, read frame by frame; each iteration starts anew and holds a few frames at a time.

    Opening decodes the first frame and walks once over the packets (without decoding them), which finds the exact
    number of frames and whether the file was cut short.

    Args:
        path: H.264, HEVC, VP9, AV1 or whatever else FFmpeg decodes, 8 or more bits.
        forgiving: frames that cannot be decoded do not end the reading. In their place, at their time, the frame before
            comes once more; where it is not known of each packet that it is a frame (other containers than MP4 and
            Matroska), or where there is no frame before, they are left out.

    Attributes:
        damaged: numbers of the damaged frames that iterating has come by so far.

    Raises:
        UserError: no such file, not a video, sound only, no frames, cut short. While iterating: a frame that cannot
            be decoded (unless forgiving) or that changes size; the line names the frame.
    """

    def __init__(self, path: str | Path, forgiving: bool = False) -> None:
        self.path, self.forgiving, self.damaged = Path(path), forgiving, set()
        self._times = array("q")  # of every frame, where the packets tell them; 8 bytes a frame
        if not self.path.is_file():
            raise UserError(f"no video file {self.path}")
        self._crop: tuple[int, int] | None = None
        self.info = self._inspect()

    @property
    def start(self) -> float:
        """Seconds from the start of the file to its first frame: sound may begin before the pictures."""
        return self._first_time

    def __len__(self) -> int:
        return self.info.frames

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def time_of(self, index: int) -> float:
        """When a frame is shown, in seconds; by the mean frame rate where only decoding tells."""
        if index < len(self._times):
            return float((self._times[index] - self._start) * self.info.time_base)
        return self._first_time + index / float(self.info.rate)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames ``start`` to ``stop`` (not included). Those before ``start`` are decoded, not converted."""
        end = self.info.frames if stop is None else min(stop, self.info.frames)
        return self._frames(range(start, end), end)

    def frames_at(self, wanted: Collection[int]) -> Iterator[Frame]:
        """Single frames, rising, in one pass; those between are decoded, not converted."""
        return self._frames(wanted, min(max(wanted, default=-1) + 1, self.info.frames))

    def _frames(self, wanted: Collection[int], end: int) -> Iterator[Frame]:
        with _opened(self.path) as container:
            stream = _video_stream(container)
            stream.thread_type = "AUTO"
            index, size = 0, None
            step = max(1, round(1 / (self.info.rate * self.info.time_base)))
            last, held = -step, None
            try:
                for decoded, broken in _decoded(container, stream, self.forgiving):
                    if size is None:
                        size = (decoded.width, decoded.height)
                    elif size != (decoded.width, decoded.height):
                        raise UserError(
                            f"{self.path}: frame {index} is {decoded.width} x {decoded.height}, the ones before "
                            f"{size[0]} x {size[1]}; convert the video to one size first"
                        )
                    if self.forgiving and held is not None and decoded.pts is not None:
                        while index < end and index < len(self._times) and self._times[index] < decoded.pts:
                            yield from self._again(index, held, wanted)
                            index, broken = index + 1, False
                    if index >= end:
                        return
                    pts = last + step if decoded.pts is None else decoded.pts - self._start
                    last, held = pts, decoded
                    bad = bool(decoded.is_corrupt) or broken
                    if bad:
                        self.damaged.add(index)
                    if index in wanted:
                        time = float(pts * self.info.time_base)
                        yield Frame(index, pts, time, self._image(decoded), bad)
                    index += 1
            except av.error.FFmpegError as error:
                raise UserError(
                    f"{self.path}: frame {index} of {self.info.frames} cannot be decoded ({_reason(error)}): the file "
                    f"is damaged there; repair it, or cut it before {float(max(last, 0) * self.info.time_base):.2f} s"
                ) from None
            while self.forgiving and held is not None and index < min(end, len(self._times)):
                yield from self._again(index, held, wanted)
                index += 1
        if index < end:
            raise UserError(
                f"{self.path}: decoding ended at frame {index} of {self.info.frames}: the file is damaged there; "
                "repair or cut it"
            )

    def _again(self, index: int, held: av.VideoFrame, wanted: Collection[int]) -> Iterator[Frame]:
        """The frame before, at the time of a frame that could not be decoded."""
        self.damaged.add(index)
        if index in wanted:
            yield Frame(index, self._times[index] - self._start, self.time_of(index), self._image(held), True)

    def _image(self, decoded: av.VideoFrame) -> np.ndarray:
        image = to_rgb(decoded)
        if self._crop is not None:
            image = image[: self._crop[0], : self._crop[1]]
        return np.ascontiguousarray(orient(image, display_matrix(decoded)))

    def _inspect(self) -> VideoInfo:
        with _opened(self.path) as container:
            stream = _video_stream(container)
            _check_whole(container, stream, self.path)
            try:
                first, _ = next(_decoded(container, stream, self.forgiving), (None, False))
            except av.error.FFmpegError as error:
                raise UserError(f"{self.path}: its first frame cannot be decoded ({_reason(error)})") from None
            if first is None:
                raise UserError(f"{self.path} has a video stream without a single frame that can be decoded")
            time_base = stream.time_base or Fraction(1, 90_000)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            # FFmpeg's tools count time from the container's start, which sound and picture share.
            self._start = round(container.start_time / (time_base * av.time_base)) if container.start_time else 0
            self._first_time = float((first.pts - self._start) * time_base) if first.pts is not None else 0.0
            self._crop = _noted_size(container, first)
            matrix = display_matrix(first)
            height, width = orient(np.empty((*(self._crop or (first.height, first.width)), 1)), matrix).shape[:2]
            frames, last_end = self._count(first.pts, Fraction(1) / (rate * time_base))
            duration = None if last_end is None or first.pts is None else float((last_end - first.pts) * time_base)
            return VideoInfo(
                path=self.path,
                width=width,
                height=height,
                frames=frames,
                rate=rate,
                time_base=time_base,
                duration=duration,
                rotation=first.rotation % 360,
                codec=stream.codec_context.codec.canonical_name,
                pixel_format=first.format.name,
                bit_depth=max(component.bits for component in first.format.components),
                has_audio=bool(container.streams.audio),
                sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
            )

    def _count(self, first_pts: int | None, step: Fraction) -> tuple[int, int | None]:
        """Number of frames, and the end of the last one in units of the time base."""
        with _opened(self.path) as container:
            stream = _video_stream(container)
            indexed = _INDEXED_CONTAINERS & set(container.format.name.split(","))
            if indexed and first_pts is not None and stream.codec_context.codec.canonical_name in _ONE_PACKET_ONE_FRAME:
                # Frames before the first one shown refer to pictures that are not in the file: no decoder gives them.
                times = (
                    (packet.pts, packet.duration)
                    for packet in container.demux(stream)
                    if packet.size and not packet.is_discard and (packet.pts is None or packet.pts >= first_pts)
                )
            else:
                indexed = set()
                stream.thread_type = "AUTO"
                times = ((frame.pts, frame.duration) for frame in _until_error(container, stream, self.forgiving))
            count, end = 0, None
            for pts, duration in times:
                count += 1
                if pts is not None:
                    end = max(end or pts, pts + (duration or round(step)))
                    if indexed:
                        self._times.append(pts)
            self._times = array("q", sorted(self._times) if len(self._times) == count else [])
            return count, end


def read_frames(path: str | Path, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Frames ``start`` to ``stop`` of a short clip, all in memory: (F, H, W, 3) uint8 RGB.

    Raises:
        UserError: as :class:`VideoReader`, or no frame in that range.
    """
    reader = VideoReader(path)
    frames = [frame.image for frame in reader.frames(start, stop)]
    if not frames:
        raise UserError(f"{path} has {len(reader)} frames: none from {start} to {stop}")
    return np.stack(frames)


def read_image(path: str | Path) -> np.ndarray:
    """A picture (JPEG, PNG, WebP ...), turned as its EXIF says: (H, W, 3) uint8 RGB.

    Raises:
        UserError: no such file, or not a picture.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no picture file {path}")
    content = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
    if image is None:
        raise UserError(f"{path} is not a picture that can be read; give a JPEG or PNG file")
    return image


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """The four numbers (a, b, c, d) that turn a stored frame: x' = a x + c y, y' = b x + d y, y downwards."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            matrix = struct.unpack("=9i", bytes(data))
            return matrix[0], matrix[1], matrix[3], matrix[4]
    return 1, 0, 0, 1


def orient(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turn and mirror an image (H, W, C) by a display matrix; angles between quarter turns go to the nearest."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, flip_x, flip_y = image.transpose(1, 0, 2), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        hint = "is empty" if path.stat().st_size == 0 else f"is not a video that can be read ({_reason(error)})"
        raise UserError(f"{path} {hint}; if it was being recorded or copied, it is cut short") from None
    with container:
        yield container


def _video_stream(container: Any) -> Any:
    name = container.name
    if container.format.name == "tty":  # FFmpeg plays any text file as terminal art
        raise UserError(f"{name} is a text file, not a video")
    pictures = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if pictures and pictures[0].codec_context is None:
        raise UserError(f"{name}: no decoder for its video; convert it to H.264 first")
    if not pictures:
        what = "sound but no video" if container.streams.audio else "no video"
        raise UserError(f"{name} has {what}; give a file with pictures")
    return pictures[0]


def _check_whole(container: Any, stream: Any, path: Path) -> None:
    """Raise if the container promises more than the file holds."""
    size = path.stat().st_size
    kinds = set(container.format.name.split(","))
    if "mp4" in kinds:
        entries = stream.index_entries
        there = sum(entry.pos + entry.size <= size for entry in entries)
        if there < len(entries):
            raise UserError(
                f"{path} is cut short: frame {there} is the first of {len(entries)} that is missing; copy the file "
                "again, or cut it before that frame"
            )
    elif "matroska" in kinds:
        with path.open("rb") as file:
            end = _matroska_end(file.read(4096))
        if end is not None and size < end:
            raise UserError(f"{path} is cut short: {size} of {end} bytes are there; copy the file again")


def _matroska_end(head: bytes) -> int | None:
    """Where the file ends by its Segment's size, or None where that is not said (a live recording)."""
    at = head.find(b"\x18\x53\x80\x67")
    if at < 0 or at + 5 > len(head):
        return None
    length = 9 - head[at + 4].bit_length()
    field = head[at + 4 : at + 4 + length]
    value = int.from_bytes(field, "big") - (1 << 7 * length)
    return None if value == (1 << 7 * length) - 1 else at + 4 + length + value


def _noted_size(container: Any, first: av.VideoFrame) -> tuple[int, int] | None:
    """(height, width) of the frames before VideoWriter made them even, if it did."""
    try:
        noted = {key.lower(): value for key, value in container.metadata.items()}  # Matroska's keys are upper case
        width, height = (int(number) for number in noted.get(SIZE_KEY, "").split("x"))
    except ValueError:
        return None
    odd = (first.height - height, first.width - width)
    return (height, width) if set(odd) <= {0, 1} else None


def _decoded(container: Any, stream: Any, forgiving: bool) -> Iterator[tuple[av.VideoFrame, bool]]:
    """Decoded frames, each with whether packets before it could not be decoded (forgiving; else that is an error)."""
    broken = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            if not forgiving:
                raise
            broken = True
            continue
        for frame in frames:
            yield frame, broken
            broken = False


def _until_error(container: Any, stream: Any, forgiving: bool) -> Iterator[av.VideoFrame]:
    """Decoded frames up to the first damaged one, whose error the reader reports when it gets there."""
    try:
        for frame, _ in _decoded(container, stream, forgiving):
            yield frame
    except av.error.FFmpegError:
        return


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
