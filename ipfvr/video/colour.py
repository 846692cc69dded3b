"""RGB arrays to YCbCr frames and back, with the matrix and range that the stream names."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from ipfvr.video.graph import Filtered

# swscale's quick paths darken every colour by 1 to 2 of 255; these flags round without bias at a cost below decoding's.
_TO_RGB = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_TO_YUV = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP

_FIELDS_TO_RGB = "bilinear+accurate_rnd+full_chroma_int"
_FIELDS_TO_YUV = "bilinear+accurate_rnd+full_chroma_inp"

HALF, FULL = "yuv420p", "yuv444p"  # a colour for two by two pixels; one for each

# Values of the H.273 'matrix coefficients' that a frame or a stream carries.
_MATRIX_BT709 = 1
_MATRIX_UNSPECIFIED = 2
_MATRIX_BT601 = 6


def to_yuv(image: np.ndarray, pixel_format: str = HALF, fields: Filtered | None = None) -> av.VideoFrame:
    """Return an RGB picture as an 8-bit frame, BT.709, limited range, tagged so.

    Args:
        image: (H, W, 3) uint8 RGB.
        pixel_format: ``yuv444p``, or ``yuv420p``: that has one colour sample for two by two pixels, so an odd side is
            made even by repeating its last row or column.
        fields: :func:`fields_to_yuv` where the picture is interlaced; for ``yuv420p``.

    Returns:
        a frame of H rows and W columns, or the next even numbers.
    """
    height, width = image.shape[:2]
    if pixel_format == HALF and (height % 2 or width % 2):
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rgb = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24")
    if fields is not None:
        (frame,) = fields.push(rgb)
    else:
        frame = rgb.reformat(
            format=pixel_format,
            interpolation=_TO_YUV,
            threads=1,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
    frame.colorspace = _MATRIX_BT709
    frame.color_range = ColorRange.MPEG
    return frame


def tag_bt709(context: av.VideoCodecContext) -> None:
    """Name BT.709 and limited range in an encoder, as :func:`to_yuv` makes them."""
    context.colorspace = _MATRIX_BT709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709


def fields_to_rgb() -> Filtered:
    """The conversion of interlaced frames to RGB: the colours of 4:2:0 belong to the lines of their own field."""
    return Filtered([("scale", f"interl=1:flags={_FIELDS_TO_RGB}"), ("format", "rgb24")])


def fields_to_yuv() -> Filtered:
    """Return the conversion of RGB to interlaced 4:2:0, BT.709, limited range."""
    options = f"interl=1:flags={_FIELDS_TO_YUV}:out_color_matrix=bt709:out_range=tv"
    return Filtered([("scale", options), ("format", HALF)])


def has_full_colour(pixel_format: str) -> bool:
    """Return whether an FFmpeg pixel format has a colour for each pixel: 4:4:4, RGB, palettes; not grey."""
    side = 16
    kind = av.VideoFormat(pixel_format, side, side)
    palette = kind.has_palette
    return palette or (len(kind.components) >= 3 and kind.chroma_width(side) == kind.chroma_height(side) == side)


def to_rgb(frame: av.VideoFrame, by: Filtered | None = None) -> np.ndarray:
    """Return a decoded frame as RGB.

    The matrix and the range are the frame's own. A frame that names no matrix is read as players do: BT.709 where it
    is wider than 1279 or taller than 576 pixels, BT.601 below. Transfer curve and primaries are left as they are, but
    for what ``by`` makes of them.

    Args:
        frame: the frame.
        by: makes RGB of it, where that takes more than a matrix.

    Returns:
        (H, W, 3) uint8; more than 8 bits are rounded to 8.
    """
    if frame.colorspace == _MATRIX_UNSPECIFIED and not frame.format.is_rgb:
        large = frame.width >= 1280 or frame.height > 576
        frame.colorspace = _MATRIX_BT709 if large else _MATRIX_BT601
    if by is not None:
        (rgb,) = by.push(frame)
        return rgb.to_ndarray()
    rgb = frame.reformat(format="rgb24", interpolation=_TO_RGB, threads=1, dst_color_range=ColorRange.JPEG)
    return rgb.to_ndarray()
