"""Film faults for training, in addition to Eq. 13: the faults of real clips, and clips without faults.

A network that has seen mild and no degradation leaves good input alone; one that has seen compression alone, blur alone
and coloured noise does not take every fault for all of them.
"""

from __future__ import annotations

import cv2
import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.core.shapes import UInt8
from ipfvr.degradation.pipeline import RESIZES, Parameters, Round, degrade, sample_parameters

FAULTS = ("clean", "mild", "compressed", "blurred", "chroma", "small")
_CHROMA = (4.0, 16.0)  # standard deviation of the coloured noise, on the 0-255 scale
_CHROMA_GRAIN = 4  # pixels across one grain of it


def film_fault(
    sharp: UInt8[np.ndarray, "f side side 3"], fault: str, rng: np.random.Generator
) -> UInt8[np.ndarray, "f low low 3"]:
    """Give a clip one fault.

    Args:
        sharp: (F, S, S, 3) uint8 RGB.
        fault: ``clean``: nothing; ``mild``: a little of everything; ``compressed``: H.264 alone; ``blurred``: blur
            alone; ``chroma``: coloured noise, as of analogue tape, and H.264; ``small``: a face of fewer pixels than
            the square has.
        rng: draws how much of it; one draw for the whole clip.

    Returns:
        (F, h, w, 3) uint8 RGB, h = w = S over the factor that was drawn.

    Raises:
        UserError: an unknown fault.
    """
    return degrade_as_drawn(sharp, *_draw_fault(fault, sharp.shape[1], rng), rng)


def draw_degradation(level: str, config: Config, rng: np.random.Generator) -> tuple[Parameters | None, float]:
    """Draw what a training does to a sharp clip.

    Args:
        level: one of Eq. 13 or a film fault, see :func:`film_fault`.
        config: ``video`` and ``degradation`` are used.
        rng: draws it.

    Returns:
        The parameters of Eq. 13, None where the clip stays as it is, and the standard deviation, on the 0-255 scale, of
        coloured noise that is added before.

    Raises:
        UserError: an unknown level.
    """
    video = config.video
    if level in FAULTS:
        return _draw_fault(level, video.size, rng)
    seed = int(rng.integers(2**31))
    return sample_parameters(level, video.scale, video.size, seed, config.degradation.scale_sigma), 0.0


def degrade_as_drawn(
    sharp: np.ndarray, parameters: Parameters | None, chroma: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a clip (F, S, S, 3) uint8 with what :func:`draw_degradation` drew; ``rng`` draws the coloured noise."""
    if parameters is None:
        return sharp
    return degrade(_with_coloured_noise(sharp, chroma, rng) if chroma else sharp, parameters)


def _draw_fault(fault: str, size: int, rng: np.random.Generator) -> tuple[Parameters | None, float]:
    """Draw a film fault for frames of ``size`` pixels, as :func:`draw_degradation` does."""
    if fault not in FAULTS:
        raise UserError(f"unknown film fault '{fault}': known ones are {', '.join(FAULTS)}")
    if fault == "clean":
        return None, 0.0
    chroma = float(rng.uniform(*_CHROMA)) if fault == "chroma" else 0.0
    this = _draw_round(fault, size, rng)
    return Parameters(fault, int(rng.integers(2**31)), size, (this,)), chroma


def _draw_round(fault: str, size: int, rng: np.random.Generator) -> Round:
    """Draw the strength of a fault as one round of Eq. 13; sigma grows with the square, as the paper's does."""
    unit = size / 256
    sigma, delta, crf, scales = {
        "mild": ((0.0, 0.8), (0.0, 3.0), (18, 28), (1, 2)),
        "compressed": ((0.0, 0.0), (0.0, 0.0), (26, 40), (1, 2)),
        "blurred": ((1.0, 4.0), (0.0, 0.0), (12, 18), (1,)),
        "chroma": ((0.0, 0.8), (0.0, 2.0), (18, 28), (1, 2)),
        "small": ((0.0, 0.8), (0.0, 3.0), (18, 30), (3, 4, 5, 6)),
    }[fault]
    return Round(
        sigma=float(rng.uniform(*sigma)) * unit,
        delta=float(rng.uniform(*delta)),
        crf=int(rng.integers(crf[0], crf[1] + 1)),
        scale=int(rng.choice(scales)),
        resize=str(rng.choice(RESIZES)),
    )


def _with_coloured_noise(frames: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Frames (F, S, S, 3) with coarse noise in Cb and Cr; luma is left as it is."""
    result = np.empty_like(frames)
    side = max(1, frames.shape[1] // _CHROMA_GRAIN)
    for index, frame in enumerate(frames):
        grain = rng.standard_normal((side, side, 2), dtype=np.float32) * spread
        noise = cv2.resize(grain, frame.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        colours = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb).astype(np.float32)
        colours[..., 1:] += noise
        result[index] = cv2.cvtColor(np.rint(colours).clip(0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)
    return result
