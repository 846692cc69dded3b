"""Opening a video file: checking that it is complete, finding its pictures, decoding them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from ipfvr.core.errors import UserError

# Key of a file's metadata in which VideoWriter notes an odd size, "63x47".
SIZE_KEY = "ipfvr_size"


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a container.

    Raises:
        UserError: it is empty or not a video.
    """
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        hint = "is empty" if path.stat().st_size == 0 else f"is not a video that can be read ({reason(error)})"
        raise UserError(f"{path} {hint}; if it was being recorded or copied, it is cut short") from None
    with container:
        yield container


def video_stream(container: Any) -> Any:
    """Return the pictures of a container, not the picture on its cover.

    Raises:
        UserError: it has none, or none that can be decoded.
    """
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


def check_whole(container: Any, stream: Any, path: Path) -> None:
    """Raise a UserError if the container promises more than the file holds."""
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
    """Return the end of the file by the size of its Segment; None: the file does not give it (a live recording)."""
    at = head.find(b"\x18\x53\x80\x67")
    if at < 0 or at + 5 > len(head):
        return None
    length = 9 - head[at + 4].bit_length()
    field = head[at + 4 : at + 4 + length]
    value = int.from_bytes(field, "big") - (1 << 7 * length)
    return None if value == (1 << 7 * length) - 1 else at + 4 + length + value


def noted_size(container: Any, first: av.VideoFrame) -> tuple[int, int] | None:
    """(height, width) of the frames before VideoWriter made them even, if it did."""
    try:
        noted = {key.lower(): value for key, value in container.metadata.items()}  # Matroska's keys are upper case
        width, height = (int(number) for number in noted.get(SIZE_KEY, "").split("x"))
    except ValueError:
        return None
    odd = (first.height - height, first.width - width)
    return (height, width) if set(odd) <= {0, 1} else None


def decode(container: Any, stream: Any, forgiving: bool) -> Iterator[tuple[av.VideoFrame, bool]]:
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


def until_error(container: Any, stream: Any, forgiving: bool) -> Iterator[av.VideoFrame]:
    """Decoded frames up to the first damaged one, whose error the reader reports when it gets there."""
    try:
        for frame, _ in decode(container, stream, forgiving):
            yield frame
    except av.error.FFmpegError:
        return


def reason(error: Exception) -> str:
    """FFmpeg's description of an error."""
    return getattr(error, "strerror", None) or str(error)
