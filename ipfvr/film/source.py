"""What a job reads and writes: a film, or a picture."""

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
    """A job's source; a picture is a film of one frame.

    Args:
        path: of the file.
        video: what becomes of interlaced film.

    Raises:
        UserError: as :class:`ipfvr.video.photo.Photo` and :class:`ipfvr.video.reader.VideoReader`.
    """
    return Photo(path) if is_photo(path) else VideoReader(path, forgiving=True, interlaced=video.interlaced)


def find_beside(reader: VideoReader, output: Path) -> Extras:
    """What a source has beside its frames, and what of it ``output`` cannot carry.

    A picture's own is written with its pixels (:meth:`ipfvr.video.photo.Photo.write`): nothing is copied.

    Raises:
        UserError: as :func:`ipfvr.video.mux.find_extras`.
    """
    if isinstance(reader, Photo):
        return Extras(reader.path, (), reader.left_out(output), {}, chapters=False, sound=False)
    return find_extras(reader.path, output)


def colours_of(job: Job, video: VideoConfig, reader: VideoReader) -> tuple[str, str]:
    """How a film's colours are written, ``yuv420p`` or ``yuv444p``, and a line on the latter where nobody asked for it.

    4:2:0 has one colour for two by two pixels. Of a film with a colour for each (screen recordings; GIF, whose dither
    is nothing but that) it keeps a blur, and an odd side it cannot have.
    """
    width, height = reader.info.width * job.scale, reader.info.height * job.scale
    if job.square:
        width = height = video.size
    odd = f"{width} x {height} is odd" if width % 2 or height % 2 else ""
    # Enlarged twice, a colour for two by two pixels is one for each of the source's.
    own = job.scale == 1 and not job.square and has_full_colour(reader.info.pixel_format)
    why = odd or ("the source has one" if own else "")
    if video.chroma != "auto" or not why:
        return (FULL if video.chroma == "444" else HALF), ""
    return FULL, f"written with a colour for each pixel (4:4:4), as {why}; for players that cannot: video.chroma=420"


def remarks(job: Job, video: VideoConfig, reader: VideoReader) -> list[str]:
    """What is done to a source's frames beside the restoration, and a user may want otherwise, a line each."""
    colours = "" if isinstance(reader, Photo) else colours_of(job, video, reader)[1]
    return [*reader.notes, *filter(None, [colours])]


def writable_ending(source: Path) -> str:
    """The ending of a file that can be written for a source: its own, or one that carries all of it.

    Matroska carries any sound, PNG any picture.
    """
    ending = source.suffix.lower()
    if is_photo(source):
        return ending if ending in WRITABLE else ".png"
    return ending if ending in CONTAINERS else ".mkv"


def check_ending(source: VideoReader, output: Path) -> None:
    """Say that a film comes out as a film, and a picture as a picture.

    Raises:
        UserError: a name that ends otherwise.
    """
    what, endings = ("a picture", WRITABLE) if isinstance(source, Photo) else ("a film", CONTAINERS)
    if output.suffix.lower() not in endings:
        raise UserError(f"cannot write {output}: {source.path} is {what}, so the name must end in {', '.join(endings)}")
