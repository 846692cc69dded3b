"""Reading and writing pictures: turned upright for the network, written with their orientation and metadata."""

from __future__ import annotations

import io
from array import array
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, TiffTags, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic
from ipfvr.video.footage import PICTURES
from ipfvr.video.reader import Frame, VideoInfo, VideoReader

# Endings of pictures that can be written, and Pillow's names of their kinds.
WRITABLE = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
# Also pictures, not films of one frame: some can be read, the others are refused with advice.
ENDINGS = PICTURES | {".avif", ".heic", ".heif", ".jxl"}

_EXIF = b"Exif\x00\x00"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {**_TURNS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_XMP_IN_PNG, _XMP_IN_TIFF = "XML:com.adobe.xmp", 700
_NO_TEXTS = (_XMP_IN_PNG, "Raw profile type exif")  # they are kept under other names
# TIFF tags that describe the picture, not the layout of its file.
_SPEAKING = {270, 271, 272, 305, 306, 315, 316, 33432, 33723, *TiffTags.TAGS_V2_GROUPS} - {330}


def is_photo(path: Path) -> bool:
    """Return whether a file is a picture by its suffix."""
    return path.suffix.lower() in ENDINGS


class Photo(VideoReader):
    """A picture as a film of one frame, and what else its file holds.

    The frame is shown as the EXIF orientation says, without transparency, in 8 bits; colours are those of the
    picture's own profile (CMYK becomes sRGB). Of a file of several pictures it is the first.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP or what else Pillow reads.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.

    Raises:
        UserError: no such file, or not a picture that can be read whole.
    """

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise UserError(f"no picture file {path}")
        super().__init__(path)

    def _inspect(self) -> VideoInfo:
        self._times, self._start, self._first_time = array("q", [0]), 0, 0.0
        try:
            with Image.open(self.path) as picture:
                self._load(picture)
        except UnidentifiedImageError:
            raise UserError(f"{self.path} is not a picture that can be read; convert it to JPEG or PNG first") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"{self.path} cannot be read ({error}); copy or convert it again") from None
        height, width = self.image.shape[:2]
        once = Fraction(1)
        return VideoInfo(self.path, width, height, 1, once, once, None, 0, self._kind.lower(), "rgb24", 8, False)

    def _load(self, picture: Image.Image) -> None:
        self._kind = picture.format or ""
        self._pages = getattr(picture, "n_frames", 1) if self._kind != "MPO" else 1  # a phone's previews
        self._deep = "16" in _raw_mode(picture) or picture.mode in ("I", "F")
        # Pillow turns a TIFF itself.
        self._orientation = 1 if self._kind == "TIFF" else picture.getexif().get(ExifTags.Base.Orientation, 1)
        picture.load()
        self._kept = _metadata(picture)
        self._lossless = self._kind not in ("JPEG", "MPO", "AVIF") and (
            self._kind != "WEBP" or _is_lossless_webp(self.path.read_bytes())
        )
        self._grey = picture.mode in ("1", "L", "LA", "La", "I", "F") or picture.mode.startswith("I;16")
        clear = "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info
        self._alpha = picture.convert("RGBA").getchannel("A") if clear else None
        upright = _turned(self._in_colours(picture), _TURNS.get(self._orientation))
        self.image = np.ascontiguousarray(np.asarray(upright))

    def _in_colours(self, picture: Image.Image) -> Image.Image:
        """Return the picture in RGB."""
        if picture.mode in ("CMYK", "LAB"):
            profile = self._kept.pop("icc_profile", None)
            if profile:
                there = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                return ImageCms.profileToProfile(picture, there, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if picture.mode.startswith("I") or picture.mode == "F":
            # Pillow cuts what is above 255 off; 16 bits are meant, whatever holds them.
            values = np.asarray(picture).astype(np.float64) / (257 if picture.mode != "F" else 1)
            picture = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
        return picture.convert("RGB")

    def _frames(self, indices: Collection[int], end: int) -> Iterator[Frame]:
        if 0 in indices and end > 0:
            yield Frame(0, 0, 0.0, self.image)

    def left_out(self, output: Path) -> tuple[str, ...]:
        """Return the parts of the file that an output with this name will lose, as sentences."""
        found = []
        if self._pages > 1:
            found.append(f"{self.path} holds {self._pages} pictures: only the first is restored")
        if self._deep:
            found.append(f"{self.path} has 16 bits per sample: the output has 8")
        if self._alpha is not None and WRITABLE[output.suffix.lower()] == "JPEG":
            found.append(f"{self.path} is transparent in places, which a JPEG cannot store: write .png to keep it")
        return tuple(found)

    def write(self, path: Path, image: np.ndarray, quality: int, note: str, square: bool = False) -> None:
        """Write a picture made from this one, completely or not at all, with its profile, metadata and resolution.

        It lies in the file as this one does, so that the EXIF orientation stays true. A grey picture stays grey.

        Args:
            path: its ending names the kind.
            image: (H, W, 3) uint8 RGB, upright; it may be larger than this one.
            quality: of a JPEG, and of a WebP where this picture has lost something already, 1 to 100.
            note: stands in the comment of a JPEG or PNG.
            square: it shows a part alone: it is written upright, and transparency is left out.

        Raises:
            UserError: a file that cannot be written, or EXIF too long for a JPEG.
        """
        kind, kept, orientation = WRITABLE[path.suffix.lower()], dict(self._kept), self._orientation
        picture = Image.fromarray(image)
        if square and orientation != 1:
            kept["exif"] = _upright(kept.get("exif", b""))
            orientation = 1
        picture = _turned(picture, _BACK.get(orientation))
        picture = picture.convert("L") if self._grey else picture
        if self._alpha is not None and kind != "JPEG" and not square:
            picture.putalpha(self._alpha.resize(picture.size, Image.Resampling.LANCZOS))
        texts = kept.pop("texts")
        if kind == "PNG":
            kept["pnginfo"] = _png_texts(texts, kept.pop("xmp", None), note)
        elif kind == "JPEG":
            kept |= {"comment": "; ".join([*texts.values(), note]), "quality": quality, "subsampling": 0}
        elif kind == "WEBP":
            kept |= {"lossless": self._lossless, "quality": quality, "exact": True}
        elif "exif" in kept or "xmp" in kept:
            kept = _with_tags(kept)
        else:
            kept["compression"] = "tiff_adobe_deflate"
        try:
            with atomic(path) as temporary:
                picture.save(temporary, kind, **kept)
        except ValueError as error:
            raise UserError(f"cannot write {path}: {error}; write .png") from None


def _raw_mode(picture: Image.Image) -> str:
    """Return the layout of the samples in the file, such as ``RGB;16B``."""
    arguments = picture.tile[0][3] if getattr(picture, "tile", None) else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _metadata(picture: Image.Image) -> dict[str, Any]:
    """Return a picture file's metadata, by the names under which Pillow writes it, and its ``texts``."""
    info = picture.info
    kept: dict[str, Any] = {key: info[key] for key in ("icc_profile", "dpi") if info.get(key)}
    texts = {key: str(value) for key, value in getattr(picture, "text", {}).items() if key not in _NO_TEXTS}
    if info.get("comment"):
        comment = info["comment"]
        texts["Comment"] = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)
    xmp = info.get("xmp") or info.get(_XMP_IN_PNG)
    if xmp:
        kept["xmp"] = xmp.encode() if isinstance(xmp, str) else xmp
    exif = info.get("exif", b"")
    if picture.format == "TIFF":
        exif = _of_tiff(picture.getexif())
    if exif:
        # As they are, byte for byte: a maker's own notes hold addresses in them.
        kept["exif"] = exif if exif.startswith(_EXIF) else _EXIF + exif
    return {**kept, "texts": texts}


def _of_tiff(there: Image.Exif) -> bytes:
    chosen = Image.Exif()
    for tag in _SPEAKING & set(there):
        chosen[tag] = there.get_ifd(tag) if tag in TiffTags.TAGS_V2_GROUPS else there[tag]
    return chosen.tobytes() if len(chosen) else b""


def _upright(content: bytes) -> bytes:
    exif = Image.Exif()
    exif.load(content)
    exif[ExifTags.Base.Orientation] = 1
    return exif.tobytes()


def _with_tags(kept: dict[str, Any]) -> dict[str, Any]:
    """EXIF and XMP as tags of a TIFF, which stays uncompressed: Pillow's compressing writer fails on EXIF's parts."""
    tags = Image.Exif()
    tags.load(kept.pop("exif", b""))
    if "xmp" in kept:
        tags[_XMP_IN_TIFF] = kept.pop("xmp")
    return {**kept, "tiffinfo": tags}


def _png_texts(texts: dict[str, str], xmp: bytes | None, note: str) -> PngInfo:
    found = PngInfo()
    for key, value in {**texts, "Comment": "; ".join(filter(None, [texts.get("Comment", ""), note]))}.items():
        found.add_itxt(key, value)
    if xmp:
        found.add_itxt(_XMP_IN_PNG, xmp.decode("utf-8", "replace"))
    return found


def _turned(picture: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return picture if turn is None else picture.transpose(turn)


def _is_lossless_webp(content: bytes) -> bool:
    """Return whether the first picture of a WebP file is coded without loss."""
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        at += 8 + (16 if name == b"ANMF" else size + size % 2)
    return False
