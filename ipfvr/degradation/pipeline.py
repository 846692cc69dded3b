"""Eq. 13: degrading a sharp clip to look like an old or badly compressed recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from ipfvr.core.choices import Levels
from ipfvr.core.errors import UserError
from ipfvr.video.colour import to_rgb, to_yuv
from ipfvr.video.h264 import set_up_encoder

LEVELS = tuple(Levels)
RESIZES = ("area", "bicubic")

# Section 4, "Implementation": the sampling intervals of sigma (pixels, for faces of 720 pixels), delta (of 255), crf.
_SIGMA = {"light": (0.2, 3.0), "heavy": (2.0, 5.0)}
_DELTA = {"light": (1.0, 5.0), "heavy": (1.0, 10.0)}
_CRF = (18, 35)
_SECOND_ROUND = 0.9
_PAPER_SIZE = 720

# x264 spends bits by the frame rate; a clip in memory has none, so it is one for all.
ENCODER_RATE = Fraction(25)


@dataclass(frozen=True)
class Round:
    """One application of Eq. 13.

    Attributes:
        sigma: standard deviation of the Gaussian k, in pixels of the frame that the round is given.
        delta: standard deviation of the noise n, on the 0-255 scale.
        crf: constant rate factor of the H.264 encode.
        scale: down-sampling factor r.
        resize: how the r is taken: ``area`` or ``bicubic`` (with antialiasing); no difference at r = 1.
    """

    sigma: float
    delta: float
    crf: int
    scale: int
    resize: str


@dataclass(frozen=True)
class Parameters:
    """Everything that the degradation of one clip depends on; it is the same for all frames of the clip.

    Attributes:
        level: ``light``, ``heavy`` or ``severe``.
        seed: of the parameters and of the noise.
        size: side of the sharp frames in pixels, for which sigma was scaled.
        rounds: one or two.
    """

    level: str
    seed: int
    size: int
    rounds: tuple[Round, ...]

    @property
    def scale(self) -> int:
        """The factor by which the degraded frame is smaller: the product of the rounds' r."""
        return int(np.prod([r.scale for r in self.rounds]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` gives the same parameters back."""
        return {**asdict(self), "rounds": [asdict(r) for r in self.rounds]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Parameters:
        """Return the parameters that :meth:`to_dict` wrote."""
        return cls(**{**values, "rounds": tuple(Round(**r) for r in values["rounds"])})


def sample_parameters(level: str, scale: int, size: int, seed: int, scale_sigma: bool = True) -> Parameters:
    """Draw the parameters of one clip.

    ``light`` is first order: one round. ``heavy`` is second order: a round at r = ``scale`` and, with probability 0.9,
    a second one at r = 1. ``severe`` is heavy at twice the ``scale``. The way to down-sample is drawn too, area or
    bicubic with equal chances: a network trained on both is bound to neither.

    Args:
        level: ``light``, ``heavy`` or ``severe``.
        scale: r of the first round (4 in the paper, 2 for faces of 128 pixels).
        size: side of the sharp frames, pixels.
        seed: any non-negative integer.
        scale_sigma: multiply sigma by size / 720, so that the same share of a face's detail is lost as in the paper's
            frames; False: the paper's numbers as they are.

    Raises:
        UserError: an unknown level, a scale or a size below 1, a negative seed.

    Examples:
        >>> parameters = sample_parameters("severe", scale=4, size=720, seed=0)
        >>> parameters.scale, len(parameters.rounds)
        (8, 2)
        >>> Parameters.from_dict(parameters.to_dict()) == parameters
        True
    """
    if level not in LEVELS:
        raise UserError(f"unknown degradation level '{level}': known ones are {', '.join(LEVELS)}")
    if scale < 1 or size < 1 or seed < 0:
        raise UserError(f"degradation needs scale >= 1, size >= 1, seed >= 0; got {scale}, {size}, {seed}")
    rng = np.random.default_rng([seed, 0])
    ranges = "light" if level == "light" else "heavy"
    rounds = 1 if level == "light" or rng.random() >= _SECOND_ROUND else 2
    first_scale = scale * 2 if level == "severe" else scale
    factor = size / _PAPER_SIZE if scale_sigma else 1.0
    return Parameters(
        level=level,
        seed=seed,
        size=size,
        rounds=tuple(
            Round(
                sigma=float(rng.uniform(*_SIGMA[ranges])) * factor,
                delta=float(rng.uniform(*_DELTA[ranges])),
                crf=int(rng.integers(_CRF[0], _CRF[1] + 1)),
                scale=first_scale if index == 0 else 1,
                resize=str(rng.choice(RESIZES)),
            )
            for index in range(rounds)
        ),
    )


def degrade(frames: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Degrade a clip: :func:`degrade_stream` on an array.

    Args:
        frames: (F, H, W, 3) uint8 RGB, F >= 1; a picture is a clip of one frame.
        parameters: see :func:`sample_parameters`.

    Returns:
        (F, H // r, W // r, 3) uint8 RGB.

    Raises:
        UserError: frames smaller than r, or of another shape or type.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise UserError(f"degrade needs (F, H, W, 3) uint8 frames, F >= 1; got {frames.shape} {frames.dtype}")
    return np.stack(list(degrade_stream(frames, parameters)))


def degrade_stream(frames: Iterable[np.ndarray], parameters: Parameters) -> Iterator[np.ndarray]:
    """Degrade frames as they come; the result lags behind by the encoder's look-ahead and memory does not grow.

    Args:
        frames: (H, W, 3) uint8 RGB each, all of one size.
        parameters: see :func:`sample_parameters`.

    Yields:
        (H // r, W // r, 3) uint8 RGB, as many as went in.
    """
    return degrade_softened(soften(frames, parameters, 0), parameters)


def before_last_encode(frames: Iterable[np.ndarray], parameters: Parameters) -> Iterator[np.ndarray]:
    """Return the degradation without the last H.264 encode, for callers that write that encode to a file.

    Yields:
        (H // r, W // r, 3) uint8 RGB, as many as went in.
    """
    yield from _after_softening(soften(frames, parameters, 0), parameters)


def degrade_softened(softened: Iterable[np.ndarray], parameters: Parameters) -> Iterator[np.ndarray]:
    """:func:`degrade_stream` of frames on which :func:`soften` has done the first round's inner part already."""
    return decode_h264(encode_h264(_after_softening(softened, parameters), parameters.rounds[-1].crf))


def _after_softening(frames: Iterable[np.ndarray], parameters: Parameters) -> Iterator[np.ndarray]:
    for index, this in enumerate(parameters.rounds[:-1]):
        frames = soften(decode_h264(encode_h264(frames, this.crf)), parameters, index + 1)
    yield from frames


def soften(frames: Iterable[np.ndarray], parameters: Parameters, index: int) -> Iterator[np.ndarray]:
    """Return the inner part of Eq. 13 for round ``index``: ``(hq (x) k_sigma + n_delta) down_r``, before the encoder.

    The noise is Gaussian, independent from pixel to pixel, colour to colour and frame to frame, drawn from
    (seed, round, frame). Values are kept as real numbers until the encoder's 8 bits.

    Yields:
        (H // r, W // r, 3) uint8 RGB.
    """
    this = parameters.rounds[index]
    for number, frame in enumerate(frames):
        image = blur(frame.astype(np.float32), this.sigma)
        # SFC64 is numpy's fastest generator; a key for each frame makes it independent of the order of work.
        rng = np.random.Generator(np.random.SFC64([parameters.seed, 1 + index, number]))
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= this.delta
        image += noise
        image = downscale(image, this.scale, this.resize)
        yield np.rint(image).clip(0, 255).astype(np.uint8)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """``hq (x) k_sigma``: Gaussian of standard deviation ``sigma`` pixels, cut at four of them, borders mirrored."""
    if sigma <= 0:
        return image.copy()
    side = 2 * int(np.ceil(4 * sigma)) + 1
    return cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)


def downscale(image: np.ndarray, scale: int, resize: str) -> np.ndarray:
    """``down_r``: (H, W, 3) float32 to (H // r, W // r, 3).

    ``area`` averages the r x r pixels under each new one; ``bicubic`` is the Catmull-Rom kernel widened r times, so
    that it does not alias (Keys 1981, a = -0.5, as in MATLAB's ``imresize``).

    Raises:
        UserError: an image smaller than r.
    """
    height, width = image.shape[0] // scale, image.shape[1] // scale
    if not height or not width:
        raise UserError(f"a frame of {image.shape[1]} x {image.shape[0]} is too small for a scale of {scale}")
    if scale == 1:
        return image
    # Each side is made an exact multiple first (at most r - 1 pixels are cut), so all new pixels share one kernel.
    image = image[: height * scale, : width * scale]
    if resize == "area":
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    kernel = bicubic_kernel(scale)
    anchor = ((len(kernel) - 1) // 2,) * 2
    filtered = cv2.sepFilter2D(image, cv2.CV_32F, kernel, kernel, anchor=anchor, borderType=cv2.BORDER_REFLECT)
    start = (scale - 1) // 2
    return np.ascontiguousarray(filtered[start::scale, start::scale])


def bicubic_kernel(scale: int) -> np.ndarray:
    """Return the Catmull-Rom kernel widened ``scale`` times: float32 taps that sum to 1."""
    # The new pixel's centre lies between two old ones when r is even, on one when r is odd.
    taps = 4 * scale if scale % 2 == 0 else 4 * scale - 1
    x = np.abs((np.arange(taps) - (taps - 1) / 2) / scale)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    kernel = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    return (kernel / kernel.sum()).astype(np.float32)


def encode_h264(frames: Iterable[np.ndarray], crf: int) -> Iterator[tuple[av.Packet | None, tuple[int, int]]]:
    """``[.]_FFMPEG``: libx264, yuv420p, one encode over the whole clip, one thread.

    The bytes depend on nothing but the frames and the crf: x264's choices change with the number of threads and with
    the frame rate, so both are fixed (1 and 25).

    Yields:
        packets whose pts and dts count frames, each with the (H, W) of the frames before they were made even; last
        comes ``None`` for the packet, which tells a decoder to return its remaining frames.
    """
    context: av.VideoCodecContext | None = None
    size = (0, 0)
    for index, image in enumerate(frames):
        frame = to_yuv(image)
        if context is None:
            size = image.shape[:2]
            context = av.CodecContext.create("libx264", "w")
            set_up_encoder(context, frame.width, frame.height, crf, ENCODER_RATE)
        frame.pts, frame.time_base = index, context.time_base
        for packet in context.encode(frame):
            yield packet, size
    if context is not None:
        for packet in context.encode(None):
            yield packet, size
        yield None, size


def decode_h264(packets: Iterable[tuple[av.Packet | None, tuple[int, int]]]) -> Iterator[np.ndarray]:
    """Return the frames that a player shows of :func:`encode_h264`'s packets: (H, W, 3) uint8 RGB each."""
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    for packet, (height, width) in packets:
        for frame in decoder.decode(packet):
            yield to_rgb(frame)[:height, :width]
