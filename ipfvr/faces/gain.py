"""How much of what a network changed in a clip is kept: all of it where the clip was bad, little where it was good.

A small network makes errors of its own. In a clip that was recorded well they are all that it adds: its change is
weak, and most of it is fine. What it does to a bad clip is strong and mostly coarse. The gain is read off these two
alone; its numbers are fitted on training people by ``experiments/mini/gain.py``, under many faults and none. It never
is 0, so a reference always has an effect.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from ipfvr.faces.paste import blend_mask
from ipfvr.options import GainConfig
from ipfvr.pixels import resize_frames

_FINE = 1.4 / 128  # of the side: standard deviation of the blur above which a change is fine
_LEAST = 0.01  # energy, grey levels squared, that is added before a logarithm is taken
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def change_energies(restored: np.ndarray, low: np.ndarray) -> tuple[float, float]:
    """The mean square of a clip's change of luma inside the face's mask, and of the fine part of it.

    Args:
        restored, low: (F, size, size, 3) uint8.

    Returns:
        Grey levels squared.
    """
    mask = blend_mask(restored.shape[1])
    whole = fine = 0.0
    for after, before in zip(restored, low, strict=True):
        change = cv2.subtract(after, before, dtype=cv2.CV_32F) @ _LUMA
        detail = change - cv2.GaussianBlur(change, (0, 0), _FINE * len(change))
        whole += float((mask * change**2).sum())
        fine += float((mask * detail**2).sum())
    pixels = len(restored) * float(mask.sum())
    return whole / pixels, fine / pixels


def change_features(energy: float, fine: float) -> tuple[float, float]:
    """What the gain is read off: ``ln E`` and ``ln(E_fine / E)`` of the energies of :func:`change_energies`."""
    strength = math.log(energy + _LEAST)
    return strength, math.log(fine + _LEAST) - strength


def change_gain(energy: float, fine: float, config: GainConfig) -> float:
    """Share of a change that is kept: ``floor + (1 - floor) sigmoid(bias + energy ln E + fineness ln(E_fine / E))``.

    Args:
        energy, fine: E and E_fine, see :func:`change_energies`.
        config: the four numbers; ``floor`` 1 keeps every change whole.

    Returns:
        ``floor`` to 1.
    """
    strength, fineness = change_features(energy, fine)
    exponent = config.bias + config.energy * strength + config.fineness * fineness
    return config.floor + (1 - config.floor) * 0.5 * (1 + math.tanh(exponent / 2))


def keep_change(restored: np.ndarray, low: np.ndarray, config: GainConfig) -> np.ndarray:
    """A clip with the share of its change that is to be trusted: ``low + gain (restored - low)``.

    One gain holds for the whole clip, so that nothing about it can flicker.

    Args:
        restored: (F, size, size, 3) uint8.
        low: (F, h, w, 3) uint8, the squares that it was made from, of any size.
        config: see :func:`change_gain`.

    Returns:
        (F, size, size, 3) uint8.
    """
    if config.floor == 1:
        return restored
    low = resize_frames(low, restored.shape[1])
    gain = change_gain(*change_energies(restored, low), config)
    return np.stack([cv2.addWeighted(r, gain, b, 1 - gain, 0) for r, b in zip(restored, low, strict=True)])
