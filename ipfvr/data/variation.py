"""Variations of one picture, as if of another moment: small warps, other colours, a softer lens.

Most people of the picture sets have one picture. Shown to the network as its own reference unchanged, the network would
learn to copy pixels; varied, it must look up how an eye or a mouth is drawn, as with a real second picture.
"""

from __future__ import annotations

import cv2
import numpy as np

_KNOTS = 5  # of a displacement on each side of the square: between two of them a face bends as a whole
_COLOUR = 0.12  # standard deviation of the log gain of all channels, half of it for each by itself
_GAMMA = 0.15
_SOFT = (0.0, 1.2)  # standard deviation of a blur, pixels of a square of 256


def draw_displacement(size: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth field of displacements, (size, size, 2) float32 pixels.

    Args:
        size: of the square.
        spread: standard deviation at the knots, as a share of the side; what is between them is cubic.
        rng: draws it.
    """
    knots = rng.standard_normal((_KNOTS, _KNOTS, 2)).astype(np.float32) * spread * size
    return cv2.resize(knots, (size, size), interpolation=cv2.INTER_CUBIC)


def displace(frame: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Return a frame (S, S, 3) uint8 whose pixels are taken from ``displacement`` (S, S, 2) pixels away."""
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]].astype(np.float32)
    x, y = columns + displacement[..., 0], rows + displacement[..., 1]
    return cv2.remap(frame, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def vary(frames: np.ndarray, spread: float, rng: np.random.Generator, soft: bool = True) -> np.ndarray:
    """Vary pictures (F, S, S, 3) uint8 as if of another moment, each by its own draw; shape and type stay.

    Args:
        frames: aligned squares.
        spread: of the warp, see :func:`draw_displacement`.
        rng: draws it.
        soft: by a softer lens too; a picture to learn detail from keeps its own.
    """
    varied = []
    for frame in frames:
        size = frame.shape[0]
        moved = displace(frame, draw_displacement(size, spread, rng)).astype(np.float32) / 255
        gain = np.exp(_COLOUR * (rng.standard_normal() + 0.5 * rng.standard_normal(3)))
        coloured = (moved * gain).clip(0, 1) ** np.exp(_GAMMA * rng.standard_normal())
        sigma = rng.uniform(*_SOFT) * size / 256 if soft else 0.0
        blurred = cv2.GaussianBlur(coloured, (0, 0), sigma) if sigma > 0.1 else coloured
        varied.append(np.rint(255 * blurred.clip(0, 1)).astype(np.uint8))
    return np.stack(varied)


def move_face(frames: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """A clip (F, S, S, 3) uint8 whose face bends to and fro, so that frames differ by more than the camera's way.

    Two fields of :func:`draw_displacement` swing, each at its own pace; their mean over the clip is about nothing.
    """
    time = np.linspace(0, 1, len(frames))
    fields = [draw_displacement(frames.shape[1], spread, rng) for _ in range(2)]
    turns, phases = rng.uniform(0.3, 1.5, 2) * len(frames) / 16, rng.uniform(0, 2 * np.pi, 2)
    swings = [np.sin(2 * np.pi * turn * time + phase) for turn, phase in zip(turns, phases, strict=True)]
    moved = [displace(f, a * fields[0] + b * fields[1]) for f, a, b in zip(frames, *swings, strict=True)]
    return np.stack(moved)
