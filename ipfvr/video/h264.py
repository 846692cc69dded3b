"""libx264 set up one way for every encode of the project."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2

from ipfvr.video.colour import FULL, HALF, tag_bt709

# FFmpeg's own default; named so that a result does not change with it.
PRESET = "medium"

# x264 takes 6 off the quality of colours where there is one for each pixel; whoever keeps them wants to see them.
_FULL_CHROMA = -6
_AVX2 = 11  # OpenCV's number of the processor feature


def _reproducible() -> str:
    """x264 parameters with which the same frames give the same bytes, every time and on every processor.

    The AVX-512 code of x264's macroblock tree reads memory that nothing has written: the same frames encoded twice
    in one process differ. AVX2's does not. ``cpu-independent`` chooses algorithms that agree to the bit between
    SSE, AVX and AVX2.
    """
    # Naming AVX2 on a processor without it would crash; such a one has no AVX-512 either.
    return ("asm=avx2:" if cv2.checkHardwareSupport(_AVX2) else "") + "cpu-independent=1"


def set_up_encoder(
    context: av.VideoCodecContext,
    width: int,
    height: int,
    crf: int,
    rate: Fraction,
    threads: int = 1,
    preset: str = PRESET,
    fields: str = "",
    pixel_format: str = HALF,
) -> None:
    """Set an encoder that is not open yet to 8-bit H.264 whose frames are counted: pts 0, 1, 2 ...

    x264 decides by the frame rate, by the times of frames and by the number of threads. With times that count, the
    pictures depend on the frames, ``crf``, ``rate`` and ``threads`` alone, and a variable frame rate (whose times the
    packets are given afterwards) does not change them.

    Args:
        context: a libx264 encoder.
        width: even, but for ``yuv444p``.
        height: as ``width``.
        crf: constant rate factor.
        rate: frames a second.
        threads: more are faster and give other bytes.
        preset: x264's, from ultrafast to veryslow.
        fields: of interlaced frames, which field comes first: ``tff`` or ``bff``.
        pixel_format: ``yuv420p`` or ``yuv444p``.
    """
    context.width, context.height, context.pix_fmt = width, height, pixel_format
    context.framerate, context.time_base = rate, 1 / rate
    context.thread_count = threads
    parameters = _reproducible()
    if fields:
        parameters += f":{fields}=1"
    if pixel_format == FULL:
        parameters += f":chroma-qp-offset={_FULL_CHROMA}"
    context.options = {"crf": str(crf), "preset": preset, "x264-params": parameters}
    tag_bt709(context)
