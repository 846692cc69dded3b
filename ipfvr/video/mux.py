"""Writing one file from coded pictures and everything else that the source has."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ipfvr.core.errors import UserError
from ipfvr.video.opening import SIZE_KEY

# File name endings and FFmpeg's names of their containers.
CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# Metadata that describes the source's container and not its content.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", SIZE_KEY}

Packets = Iterable[tuple[Fraction, av.Packet]]


@dataclass(frozen=True)
class Extras:
    """The streams that are copied from a source.

    Attributes:
        source: the file.
        streams: indices of the streams that are copied.
        left_out: those that the output cannot carry, in words.
        metadata: the source's own, such as its title.
        chapters: whether chapters are copied.
        sound: whether sound is among the streams.
    """

    source: Path
    streams: tuple[int, ...]
    left_out: tuple[str, ...]
    metadata: Mapping[str, str]
    chapters: bool
    sound: bool


def find_extras(source: Path, output: Path, sound_only: bool = False) -> Extras:
    """Find the streams of ``source``, beside the pictures, that a file named ``output`` can carry.

    Args:
        source: a video.
        output: its ending names the container.
        sound_only: subtitles, attachments, cover pictures and metadata are left where they are.

    Raises:
        UserError: sound that the container cannot carry. Other streams are left out, and named.
    """
    streams, left_out = [], []
    with av.open(str(source), metadata_errors="ignore") as container:
        pictures = next((s for s in container.streams.video if not _is_cover(s)), None)
        chapters = bool(container.chapters())
        for stream in container.streams:
            if stream is pictures or (sound_only and stream.type != "audio"):
                continue
            if stream.type == "data" and chapters and output.suffix.lower() != ".mkv":
                continue  # the chapters' names, which the container writes itself
            if _can_carry(stream, output):
                streams.append(stream.index)
            elif stream.type == "audio":
                raise UserError(
                    f"{output}: a {output.suffix} file cannot carry the {_name(stream)} sound of {source} untouched; "
                    f"write {output.with_suffix('.mkv').name}, or no sound"
                )
            else:
                left_out.append(
                    f"stream {stream.index} ({stream.type}, {_name(stream)}): {output.suffix} cannot carry it"
                )
        # Matroska's keys are upper case.
        own = {} if sound_only else {key.lower(): value for key, value in container.metadata.items()}
        kept = {key: value for key, value in own.items() if key not in _OF_THE_FILE}
        sound = bool(container.streams.audio)
        return Extras(source, tuple(streams), tuple(left_out), kept, chapters and not sound_only, sound)


def create(path: Path, suffix: str, metadata: Mapping[str, str]) -> Any:
    """Open a container for writing, with metadata.

    Raises:
        OSError, av.error.FFmpegError: it cannot be made.
    """
    # use_metadata_tags keeps keys that the format does not know, such as an odd size.
    options = {"movflags": "use_metadata_tags"} if metadata and suffix != ".mkv" else {}
    container = av.open(str(path), "w", format=CONTAINERS[suffix], options=options)
    container.metadata.update(metadata)
    return container


def join(
    path: Path,
    suffix: str,
    pictures: Sequence[Path],
    retime: Callable[[int, av.Packet], None] | None,
    time_base: Fraction,
    metadata: Mapping[str, str],
    extras: Extras | None,
) -> None:
    """Write one file of coded pictures and a source's extras, packet by packet in the order of decoding.

    Args:
        path: the file, under a temporary name.
        suffix: of its final name.
        pictures: files of one video stream each, coded alike, in order.
        retime: given a file's number and a packet of it, sets the packet's times; None: they stay.
        time_base: of the pictures' times, seconds.
        metadata: of the file; it wins over that of ``extras``.
        extras: what is copied beside the pictures; None: nothing.

    Raises:
        OSError, av.error.FFmpegError, ValueError: a file that cannot be read or written.
    """
    with ExitStack() as stack:
        output = stack.enter_context(create(path, suffix, {**(extras.metadata if extras else {}), **metadata}))
        with av.open(str(pictures[0])) as first:
            target = output.add_stream_from_template(first.streams.video[0])
        target.time_base = time_base
        queues: list[Packets] = [_pictures(pictures, target, retime)]
        if extras is not None and (extras.streams or extras.chapters):
            source = stack.enter_context(av.open(str(extras.source), metadata_errors="ignore"))
            start = source.start_time or 0
            queues.append(_copied(source, extras.streams, output, start))
            if extras.chapters:
                output.set_chapters([_earlier(chapter, start) for chapter in source.chapters()])
        for _, packet in heapq.merge(*queues, key=lambda pair: pair[0]):
            output.mux(packet)


def _pictures(
    files: Sequence[Path], target: Any, retime: Callable[[int, av.Packet], None] | None
) -> Iterator[tuple[Fraction, av.Packet]]:
    for number, file in enumerate(files):
        with av.open(str(file)) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.dts is None or not packet.size:
                    continue
                if retime is not None:
                    retime(number, packet)
                packet.stream = target
                yield packet.dts * packet.time_base, packet


def _copied(source: Any, streams: Sequence[int], output: Any, start: int) -> Iterator[tuple[Fraction, av.Packet]]:
    """Packets of some streams with their decoding time in seconds, readdressed to ``output``, from ``start`` us on."""
    target = {}
    for index in streams:
        stream = source.streams[index]
        target[index] = output.add_stream_from_template(stream)
        target[index].metadata.update(stream.metadata)
        target[index].disposition = stream.disposition

    def each() -> Iterator[tuple[Fraction, av.Packet]]:
        # Subtitles are few: demuxing would wait for them and hold everything else.
        for packet in source.demux([source.streams[index] for index in streams]) if streams else ():
            if packet.dts is None or not packet.size:
                continue
            shift = round(start / (packet.time_base * av.time_base))
            packet.dts -= shift
            if packet.pts is not None:
                packet.pts -= shift
            time = packet.dts * packet.time_base
            packet.stream = target[packet.stream_index]
            yield time, packet

    return each()


def _earlier(chapter: Mapping[str, Any], start: int) -> dict[str, Any]:
    shift = round(start / (chapter["time_base"] * av.time_base))
    return {**chapter, "start": chapter["start"] - shift, "end": chapter["end"] - shift}


def _can_carry(stream: Any, output: Path) -> bool:
    try:
        with av.open(io.BytesIO(), "w", format=CONTAINERS[output.suffix.lower()]) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError, TypeError, NotImplementedError):
        return False
    return True


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _name(stream: Any) -> str:
    return stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
