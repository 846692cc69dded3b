"""Videos to test with, made by PyAV alone, and what they show."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ipfvr.video.writer import VideoWriter

CLIPS = Path(__file__).parents[2] / "shared" / "data" / "clips"
MATRICES = {"bt709": 1, "bt601": 6}
# PyAV's numbers for swscale's matrices, which are not those of the stream.
SWS_MATRICES = {"bt709": 1, "bt601": 5}


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Four flat colours and a grey band whose level tells the frame's number; blocks are even, as 4:2:0 wants."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 4 * 2, : width // 4 * 2] = (200, 40, 60)
    image[: height // 4 * 2, width // 4 * 2 :] = (40, 170, 70)
    image[height // 4 * 2 :, : width // 4 * 2] = (50, 70, 190)
    image[height // 4 * 2 :, width // 4 * 2 :] = (230, 220, 120)
    image[16:32] = 20 + 5 * index
    return image


def number_of(image: np.ndarray) -> int:
    """The number that :func:`picture` put into a picture."""
    return round((float(image[20:28].mean()) - 20) / 5)


def encode(
    path: Path,
    images: list[np.ndarray],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: tuple[int, bool] | None = None,
    colour: tuple[str, int] | None = None,
    sound: str | None = None,
    sound_rate: int = 48_000,
) -> Path:
    """A test video made by PyAV alone, without this project's writer."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {"crf": "5", "preset": "veryfast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = stream.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        if colour is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = MATRICES[colour[0]], colour[1]
        track = container.add_stream(sound, rate=sound_rate) if sound else None
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image)
            if colour is not None:
                frame = frame.reformat(
                    format=pixel_format, dst_colorspace=SWS_MATRICES[colour[0]], dst_color_range=colour[1]
                )
                frame.colorspace = MATRICES[colour[0]]
            frame.pts, frame.time_base = (times[index] if times else index), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            samples = int(len(images) / 25 * sound_rate)
            wave = (8000 * np.sin(np.arange(samples) / 20)).astype(np.int16)
            audio = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            audio.sample_rate, audio.pts = sound_rate, 0
            container.mux(track.encode(audio))
            container.mux(track.encode(None))
    return path


def write(
    path: Path,
    images: list[np.ndarray],
    times: list[int] | None = None,
    sound_from: Path | None = None,
    then: BaseException | None = None,
) -> None:
    """Write pictures with this project's writer, and raise ``then`` before it is closed."""
    with VideoWriter(path, 64, 48, 25, sound_from=sound_from) as writer:
        for index, image in enumerate(images):
            writer.write(image, times[index] if times else None)
        if then is not None:
            raise then


def sound_packets(path: Path) -> list[tuple[bytes, Fraction]]:
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.audio) if p.size]
        return [(bytes(p), p.pts * p.time_base) for p in packets]


def spoil(path: Path, packets: list[int], bytes_kept: int = 0) -> Path:
    """Write zeros over the pictures' packets of these numbers (in the order of decoding), but for their first bytes."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size]
    content = bytearray(path.read_bytes())
    for number in packets:
        position, size = places[number]
        content[position + bytes_kept : position + size] = bytes(size - bytes_kept)
    path.write_bytes(content)
    return path
