"""Writing H.264 video files, complete or not at all, with the source's sound."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic, reason_of
from ipfvr.video.colour import HALF, fields_to_yuv, to_yuv
from ipfvr.video.h264 import PRESET, set_up_encoder
from ipfvr.video.mux import CONTAINERS, Extras, create, find_extras, join
from ipfvr.video.opening import SIZE_KEY
from ipfvr.video.reader import VideoReader

GLOBAL_HEADER = av.codec.context.Flags.global_header  # parameter sets lie in the container, not in the packets


class VideoWriter:
    """An H.264 video (8 bits, 4:2:0 or 4:4:4, BT.709, limited range, tagged so), written as frames come.

    A context manager: the file appears under its name when the block ends well; after an exception, or when no frame
    was written, nothing is left.

    4:2:0 needs even sides: an odd one is stored one pixel larger, the edge repeated, and the true size is noted in the
    file's metadata, from which :class:`VideoReader` cuts the pixel off again. Other players show it.

    Sound is copied packet by packet, not re-encoded, when the length allows: the written video must begin and end
    where the source's video does, to within one frame. Otherwise (a part of the source was written, or frames were
    added) the file is silent.

    Attributes:
        frames: frames written so far.
        sound: after the block, one of ``copied``, ``none``, or ``left out: <why>``.

    Args:
        path: ``.mp4``, ``.mov`` or ``.mkv``.
        width: of the frames, pixels.
        height: of the frames, pixels.
        rate: nominal frames a second.
        time_base: unit of ``pts`` in :meth:`write`, seconds; default ``1 / rate``.
        crf: constant rate factor, 0 (lossless) to 51.
        sound_from: the source video, whose sound is copied; None: silent.
        threads: of the encoder. The bytes depend on it, so the default is 1.
        metadata: text for the file's header.
        sample_aspect_ratio: width of a pixel to its height.
        encoder_rate: the frame rate the encoder is told, by which it spends bits; default ``rate``.
        preset: the encoder's.
        fields: of interlaced frames, which field comes first: ``tff`` or ``bff``.
        pixel_format: ``yuv420p``, or ``yuv444p``, which keeps every pixel's colour and odd sides; some players cannot
            show it.

    Raises:
        UserError: an output that cannot be written, an unknown container, sound that the container cannot carry (all
            said before the first frame); no frames, a frame of another size, times that do not increase.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        rate: Fraction | int | float,
        time_base: Fraction | None = None,
        crf: int = 17,
        sound_from: str | Path | None = None,
        threads: int = 1,
        metadata: dict[str, str] | None = None,
        sample_aspect_ratio: Fraction | None = None,
        encoder_rate: Fraction | None = None,
        preset: str = PRESET,
        fields: str = "",
        pixel_format: str = HALF,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in CONTAINERS:
            raise UserError(f"cannot write {self.path}: its name must end in {', '.join(CONTAINERS)}")
        if not 0 <= crf <= 51:
            raise UserError(f"crf {crf} is not between 0 and 51 (video.crf)")
        if min(width, height) < 2 or rate <= 0:
            raise UserError(f"cannot write {self.path}: frames of {width} x {height} at {rate} a second")
        self.width, self.height, self.crf, self.threads = width, height, crf, threads
        self.rate = Fraction(rate).limit_denominator(100_000)
        self.time_base = time_base or 1 / self.rate
        self.pixel_format = pixel_format
        self.metadata = {**(metadata or {}), **odd_size(width, height, pixel_format)}
        self.sample_aspect_ratio = sample_aspect_ratio or Fraction(1)
        self.encoder_rate, self.preset = encoder_rate or self.rate, preset
        self.fields, self._to_yuv = fields, fields_to_yuv() if fields and pixel_format == HALF else None
        self.frames = 0
        self.sound = "none"
        self._source: VideoReader | None = None
        self._extras: Extras | None = None
        if sound_from is not None:
            source = VideoReader(sound_from)
            if source.info.has_audio:
                self._source, self._extras = source, find_extras(source.path, self.path, sound_only=True)

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            self._partial = stack.enter_context(atomic(self.path))
            self._pictures = self._partial
            if self._source is not None:
                self._pictures = self._partial.with_name(f"{self._partial.stem}.silent.mp4")
                stack.callback(self._pictures.unlink, missing_ok=True)
            self._container = self._create(self._pictures)
            stack.callback(_abandon, self._container)
            self._stream = self._container.add_stream("libx264", rate=self.rate)
            self._stream.time_base = self.time_base
            even = (self.width, self.height)
            if self.pixel_format == HALF:
                even = (self.width + self.width % 2, self.height + self.height % 2)
            self._encoder = self._set_up(self._stream.codec_context, even)
            self._begun = 0  # frame at which the encoder began
            self._times: dict[int, int] = {}
            self._first = self._last = 0
            self._stack = stack.pop_all()
        return self

    def restart(self) -> None:
        """Let the frames that follow be coded without reference to those before.

        What is written from here to the next restart gives the same bytes in whatever file it stands, so that a video
        written in parts holds the frames of the video written at once. It begins with a key frame.
        """
        if self.frames > self._begun:
            self._mux(None)
            even = (self._stream.codec_context.width, self._stream.codec_context.height)
            self._encoder = self._set_up(av.CodecContext.create("libx264", "w"), even)
            self._encoder.flags |= self._stream.codec_context.flags & GLOBAL_HEADER
            self._begun = self.frames

    def write(self, image: np.ndarray, pts: int | None = None) -> None:
        """Add a frame.

        Args:
            image: (H, W, 3) uint8 RGB.
            pts: when it is shown, in units of ``time_base``, more than the one before; default: at the nominal rate.
        """
        if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
            raise UserError(
                f"{self.path}: frame {self.frames} is {image.shape} {image.dtype}, not "
                f"({self.height}, {self.width}, 3) uint8"
            )
        if pts is None:
            pts = round(self.frames / (self.rate * self.time_base))
        if self.frames and pts <= self._last:
            raise UserError(f"{self.path}: frame {self.frames} has time {pts}, not after {self._last} before it")
        self._first = self._first if self.frames else pts
        self._last = pts
        self._times[self.frames] = pts
        frame = to_yuv(image, self.pixel_format, self._to_yuv)
        frame.pts, frame.time_base = self.frames - self._begun, 1 / self.encoder_rate
        self.frames += 1
        self._mux(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            if error is not None:
                raise error
            if not self.frames:
                raise UserError(f"{self.path} was not written: there was not a single frame")
            self._mux(None)
            try:
                self._container.close()
            except av.error.FFmpegError as failure:
                raise UserError(f"{self.path} cannot be finished: {reason_of(failure)}") from None
            if self._source is not None:
                self.sound = fits(self._source, self._first, self._last, self.time_base, self.rate)
                self._join(self._extras if self.sound == "copied" else None)

    def _set_up(self, encoder: Any, size: tuple[int, int]) -> Any:
        set_up_encoder(
            encoder, *size, self.crf, self.encoder_rate, self.threads, self.preset, self.fields, self.pixel_format
        )
        encoder.sample_aspect_ratio = self.sample_aspect_ratio
        return encoder

    def _create(self, path: Path) -> Any:
        try:
            return create(path, path.suffix.lower(), self.metadata)
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; choose another output") from None

    def _mux(self, frame: av.VideoFrame | None) -> None:
        """Encode a frame (None: the end) and write the packets, whose counting times become real ones."""
        try:
            for packet in self._encoder.encode(frame):
                count = self._begun + packet.dts
                packet.stream = self._stream
                packet.pts, packet.dts = self._time(self._begun + packet.pts), self._time(count)
                packet.time_base = self.time_base
                packet.duration = self._step
                self._container.mux(packet)
                # Decoding times only grow, and no picture is shown before it is decoded.
                for past in [key for key in self._times if 0 < key < count]:
                    del self._times[past]
        except av.error.FFmpegError as error:
            raise UserError(f"{self.path} cannot be written at frame {self.frames}: {reason_of(error)}") from None

    def _time(self, count: int) -> int:
        """The time of frame ``count``; those before the first are where frames are decoded ahead of their showing."""
        return self._times[count] if count >= 0 else self._times[0] + count * self._step

    @property
    def _step(self) -> int:
        return max(1, round(1 / (self.rate * self.time_base)))

    def _join(self, extras: Extras | None) -> None:
        """Write the packets of pictures and sound into the final file."""
        suffix = self.path.suffix.lower()
        try:
            join(self._partial, suffix, [self._pictures], None, self.time_base, self.metadata, extras)
        except (av.error.FFmpegError, ValueError) as error:
            raise UserError(
                f"{self.path}: the sound of {extras and extras.source} cannot be copied ({error})"
            ) from None


def odd_size(width: int, height: int, pixel_format: str) -> dict[str, str]:
    """Return the note in a file's metadata from which an odd size, stored one pixel larger, is known again."""
    larger = pixel_format == HALF and (width % 2 or height % 2)
    return {SIZE_KEY: f"{width}x{height}"} if larger else {}


def fits(source: VideoReader, first: int, last: int, time_base: Fraction, rate: Fraction) -> str:
    """``copied`` if the sound of the source overlaps the pictures, else the reason.

    Args:
        source: of the sound.
        first, last: times of the first and the last picture, units of ``time_base``.
        time_base: seconds.
        rate: nominal pictures a second.
    """
    frame = float(max(1 / rate, 1 / source.info.rate)) * 1.01
    begin = float(first * time_base)
    length = float((last - first) * time_base + 1 / rate)
    if source.info.duration is None or abs(length - source.info.duration) > frame:
        return f"left out: the video lasts {length:.2f} s, {source.path} {source.info.duration or 0:.2f} s"
    if abs(begin - source.start) > frame:
        return f"left out: the video begins at {begin:.2f} s, {source.path} at {source.start:.2f} s"
    return "copied"


def _abandon(container: Any) -> None:
    """Close a container whatever state it is in; its file is removed, or was finished before."""
    with suppress(av.error.FFmpegError):
        container.close()


def write_video(path: Path, frames: Sequence[np.ndarray] | np.ndarray, rate: Fraction | float, crf: int) -> None:
    """Write RGB uint8 (H, W, 3) frames as a silent video, see :class:`VideoWriter`."""
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width, height, Fraction(rate).limit_denominator(1001), crf=crf) as writer:
        for frame in frames:
            writer.write(frame)


def write_picture(path: Path, image: np.ndarray, compression: int = 1) -> None:
    """Write an RGB uint8 (H, W, 3) picture as PNG, whole or not at all.

    Args:
        path: of the file; its folder is made.
        image: the picture.
        compression: 0 to 9; frames that are read once are not worth the time of more.

    Raises:
        UserError: a file that cannot be written.
    """
    done, content = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, compression])
    if not done:
        raise UserError(f"cannot write {path}")
    with atomic(path) as temporary:
        temporary.write_bytes(content.tobytes())
