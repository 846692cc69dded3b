"""Videos as streams of RGB frames (BT.709, 8 bits), and pictures."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ipfvr.core.choices import Interlaced
from ipfvr.core.errors import UserError
from ipfvr.video.colour import fields_to_rgb, to_rgb
from ipfvr.video.graph import Filtered
from ipfvr.video.hdr import Mapping
from ipfvr.video.interlace import deinterlaced, field_order, field_times
from ipfvr.video.opening import check_whole, decode, noted_size, opened, reason, until_error, video_stream

# In these every packet of a file with timestamps is one shown frame; with others only decoding tells.
_ONE_PACKET_ONE_FRAME = {"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "ffv1"}
_INDEXED_CONTAINERS = {"mov", "mp4", "matroska", "webm"}


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video that are known before its frames are read.

    Attributes:
        path: the file.
        width: of a frame as it is shown, after rotation, pixels.
        height: of a frame as it is shown, pixels.
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
    """A video, read frame by frame; each iteration starts at the beginning and holds only a few frames at a time.

    HDR and wide gamuts are brought to BT.709 (:mod:`ipfvr.video.hdr`).

    Opening decodes the first frame and walks once over the packets (without decoding them), which finds the exact
    number of frames and whether the file was cut short.

    Args:
        path: H.264, HEVC, VP9, AV1 or whatever else FFmpeg decodes, 8 or more bits.
        forgiving: frames that cannot be decoded do not end the reading. In their place, at their time, the frame before
            comes once more; where it is not known of each packet that it is a frame (other containers than MP4 and
            Matroska), or where there is no frame before, they are left out.
        interlaced: what becomes of interlaced film, which is then looked for: ``frame`` (one frame of two fields),
            ``field`` (one of each: twice as many), ``keep``; ``ignore``: it is not looked for.

    Attributes:
        fields: of frames that are interlaced and stay so, which field comes first, ``tff`` or ``bff``; else empty.
        notes: what was done to the frames and a user may want otherwise, a line each.
        damaged: numbers of the damaged frames that iterating has come by so far.

    Raises:
        UserError: no such file, not a video, sound only, no frames, cut short. While iterating: a frame that cannot
            be decoded (unless forgiving) or that changes size; the line names the frame.
    """

    def __init__(self, path: str | Path, forgiving: bool = False, interlaced: Interlaced = Interlaced.ignore) -> None:
        self.path, self.forgiving, self.damaged = Path(path), forgiving, set()
        self.fields, self.notes = "", []
        self._order = ""  # of the file's fields, where frames are made of them
        self._each_field = False
        self._colours: Filtered | None = None
        self._times = array("q")  # of every frame, where the packets tell them; 8 bytes a frame
        if not self.path.is_file():
            raise UserError(f"no video file {self.path}")
        self._crop: tuple[int, int] | None = None
        self.info = self._inspect()
        if Interlaced(interlaced) != Interlaced.ignore:
            self._look_for_fields(interlaced)

    @property
    def start(self) -> float:
        """Seconds from the start of the file to its first frame: sound may begin before the pictures."""
        return self._first_time

    def __len__(self) -> int:
        return self.info.frames

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def time_of(self, index: int) -> float:
        """Return the time of a frame in seconds; by the mean frame rate where only decoding tells."""
        if index < len(self._times):
            return float((self._times[index] - self._start) * self.info.time_base)
        return self._first_time + index / float(self.info.rate)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames ``start`` to ``stop`` (not included). Those before ``start`` are decoded, not converted."""
        end = self.info.frames if stop is None else min(stop, self.info.frames)
        return self._frames(range(start, end), end)

    def frames_at(self, indices: Collection[int]) -> Iterator[Frame]:
        """Single frames, rising, in one pass; those between are decoded, not converted."""
        return self._frames(indices, min(max(indices, default=-1) + 1, self.info.frames))

    def _frames(self, indices: Collection[int], end: int) -> Iterator[Frame]:
        with opened(self.path) as container:
            stream = video_stream(container)
            stream.thread_type = "AUTO"
            index, size = 0, None
            step = max(1, round(1 / (self.info.rate * self.info.time_base)))
            last, held = -step, None
            try:
                shown = decode(container, stream, self.forgiving)
                if self._order:
                    shown = deinterlaced(shown, self._order, self._each_field)
                for decoded, broken in shown:
                    if size is None:
                        size = (decoded.width, decoded.height)
                    elif size != (decoded.width, decoded.height):
                        raise UserError(
                            f"{self.path}: frame {index} is {decoded.width} x {decoded.height}, the ones before "
                            f"{size[0]} x {size[1]}; convert the video to one size first"
                        )
                    if self.forgiving and held is not None and decoded.pts is not None:
                        while index < end and index < len(self._times) and self._times[index] < decoded.pts:
                            yield from self._again(index, held, indices)
                            index, broken = index + 1, False
                    if index >= end:
                        return
                    pts = last + step if decoded.pts is None else decoded.pts - self._start
                    last, held = pts, decoded
                    bad = bool(decoded.is_corrupt) or broken
                    if bad:
                        self.damaged.add(index)
                    if index in indices:
                        time = float(pts * self.info.time_base)
                        yield Frame(index, pts, time, self._image(decoded), bad)
                    index += 1
            except av.error.FFmpegError as error:
                raise UserError(
                    f"{self.path}: frame {index} of {self.info.frames} cannot be decoded ({reason(error)}): the file "
                    f"is damaged there; repair it, or cut it before {float(max(last, 0) * self.info.time_base):.2f} s"
                ) from None
            while self.forgiving and held is not None and index < min(end, len(self._times)):
                yield from self._again(index, held, indices)
                index += 1
        if index < end:
            raise UserError(
                f"{self.path}: decoding ended at frame {index} of {self.info.frames}: the file is damaged there; "
                "repair or cut it"
            )

    def _again(self, index: int, held: av.VideoFrame, indices: Collection[int]) -> Iterator[Frame]:
        """Return a copy of the frame before, at the time of a frame that could not be decoded."""
        self.damaged.add(index)
        if index in indices:
            yield Frame(index, self._times[index] - self._start, self.time_of(index), self._image(held), True)

    def _image(self, decoded: av.VideoFrame) -> np.ndarray:
        self._mapping.tag(decoded)
        image = to_rgb(decoded, self._colours)
        if self._crop is not None:
            image = image[: self._crop[0], : self._crop[1]]
        return np.ascontiguousarray(orient(image, display_matrix(decoded)))

    def _look_for_fields(self, mode: str) -> None:
        order, otherwise = field_order(self.path)
        if not order:
            return
        flags = "its flags say otherwise" if otherwise else "as its flags say"
        if mode == Interlaced.keep:
            self.fields, self._colours = order, self._colours or fields_to_rgb()
            self.notes.append(f"{self.path} is interlaced ({flags}) and stays interlaced: moving faces will show combs")
            return
        self._order, self._each_field = order, mode == Interlaced.field
        if self._each_field:
            info = self.info
            step = round(1 / (info.rate * info.time_base))
            self.info = replace(info, frames=2 * info.frames, rate=2 * info.rate, time_base=info.time_base / 2)
            self._start *= 2
            self._times = field_times(self._times, step) if self._times else self._times
        made = "each field" if self._each_field else "each two fields; video.interlaced=field gives the whole motion"
        self.notes.append(f"{self.path} is interlaced ({flags}): one frame is made of {made}")

    def _inspect(self) -> VideoInfo:
        with opened(self.path) as container:
            stream = video_stream(container)
            check_whole(container, stream, self.path)
            try:
                first, _ = next(decode(container, stream, self.forgiving), (None, False))
            except av.error.FFmpegError as error:
                raise UserError(f"{self.path}: its first frame cannot be decoded ({reason(error)})") from None
            if first is None:
                raise UserError(f"{self.path} has a video stream without a single frame that can be decoded")
            time_base = stream.time_base or Fraction(1, 90_000)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            # FFmpeg's tools count time from the container's start, which sound and picture share.
            self._start = round(container.start_time / (time_base * av.time_base)) if container.start_time else 0
            self._first_time = float((first.pts - self._start) * time_base) if first.pts is not None else 0.0
            self._crop = noted_size(container, first)
            self._mapping = Mapping(first)
            if self._mapping.name:
                self._colours = self._mapping.to_rgb()
                self.notes.append(f"{self.path} is {self._mapping.name}: mapped to BT.709, which every screen shows")
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
        """Return the number of frames, and the end of the last one in units of the time base."""
        with opened(self.path) as container:
            stream = video_stream(container)
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
                times = ((frame.pts, frame.duration) for frame in until_error(container, stream, self.forgiving))
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
    """Return a picture (JPEG, PNG, WebP ...), turned as its EXIF says: (H, W, 3) uint8 RGB.

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
    """Return the four numbers (a, b, c, d) that turn a stored frame: x' = a x + c y, y' = b x + d y, y downwards."""
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
