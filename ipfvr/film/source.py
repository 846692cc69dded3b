"""The source and the output of a job: a film or a picture."""

from __future__ import annotations

from pathlib import Path

from ipfvr.core.errors import UserError
from ipfvr.core.options import VideoConfig
from ipfvr.film.job import Job
from ipfvr.video.colour import FULL, HALF, has_full_colour
from ipfvr.video.mux import CONTAINERS, Extras, find_extras
from ipfvr.video.photo import WRITABLE, Photo, is_photo
from ipfvr.video.reader import VideoReader


def open_source(path: Path, video: VideoConfig) -> VideoReader:
    """Open the source of a job; a picture is a film of one frame.

    Args:
        path: the file.
        video: the option for interlaced film.

    Raises:
        UserError: as :class:`ipfvr.video.photo.Photo` and :class:`ipfvr.video.reader.VideoReader`.
    """
    return Photo(path) if is_photo(path) else VideoReader(path, forgiving=True, interlaced=video.interlaced)


def source_extras(reader: VideoReader, output: Path) -> Extras:
    """Find the streams and metadata of a source that ``output`` can and cannot carry.

    A picture's metadata is written with its pixels (:meth:`ipfvr.video.photo.Photo.write`), so nothing is copied.

    Raises:
        UserError: as :func:`ipfvr.video.mux.find_extras`.
    """
    if isinstance(reader, Photo):
        return Extras(reader.path, (), reader.left_out(output), {}, chapters=False, sound=False)
    return find_extras(reader.path, output)


def colours_of(job: Job, video: VideoConfig, reader: VideoReader) -> tuple[str, str]:
    """Return the pixel format of the output, ``yuv420p`` or ``yuv444p``, and a note if 4:4:4 was chosen automatically.

    4:2:0 stores one colour for two by two pixels. It blurs a film with a colour for each pixel (screen recordings, and
    GIF with its dithering), and it does not allow an odd width or height.
    """
    width, height = reader.info.width * job.scale, reader.info.height * job.scale
    if job.square:
        width = height = video.size
    odd = f"{width} x {height} is odd" if width % 2 or height % 2 else ""
    # At twice the size, one colour for two by two pixels is one colour for each source pixel.
    full_colour = job.scale == 1 and not job.square and has_full_colour(reader.info.pixel_format)
    why = odd or ("the source has one" if full_colour else "")
    if video.chroma != "auto" or not why:
        return (FULL if video.chroma == "444" else HALF), ""
    return FULL, f"written with a colour for each pixel (4:4:4), because {why}; for other players: video.chroma=420"


def remarks(job: Job, video: VideoConfig, reader: VideoReader) -> list[str]:
    """Return notes on changes to the frames beside the restoration that a user can turn off, one line each."""
    colours = "" if isinstance(reader, Photo) else colours_of(job, video, reader)[1]
    return [*reader.notes, *filter(None, [colours])]


def writable_ending(source: Path) -> str:
    """Return the suffix of the output for a source: the same if it can be written, else one that carries everything.

    Matroska carries any sound, PNG any picture.
    """
    ending = source.suffix.lower()
    if is_photo(source):
        return ending if ending in WRITABLE else ".png"
    return ending if ending in CONTAINERS else ".mkv"


def check_ending(source: VideoReader, output: Path) -> None:
    """Reject an output that is not of the source's kind: a film gives a film, and a picture gives a picture.

    Raises:
        UserError: the name of the output has another suffix.
    """
    kind, endings = ("a picture", WRITABLE) if isinstance(source, Photo) else ("a film", CONTAINERS)
    if output.suffix.lower() not in endings:
        raise UserError(f"cannot write {output}: {source.path} is {kind}, so the name must end in {', '.join(endings)}")
