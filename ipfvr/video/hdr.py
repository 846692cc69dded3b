"""Mapping high dynamic range and wide gamuts to BT.709, as an ordinary screen shows them.

White of 203 cd/m2 (BT.2408) becomes white; what is brighter is rolled off by the curve of BT.2390, which leaves all
below about 90 cd/m2 as it is. The mapping is computed once as a cube of colours, which FFmpeg's lut3d looks up:
the wheels of PyAV come without zscale, and their swscale either cuts highlights off or darkens everything.
"""

from __future__ import annotations

import re
import struct
import tempfile
from functools import lru_cache
from typing import IO

import av
import numpy as np

from ipfvr.video.graph import Filtered

PQ, HLG, SDR = "PQ", "HLG", "SDR"
_TRANSFERS = {16: PQ, 18: HLG}  # H.273's numbers
# H.273's numbers of primaries, their names, and x, y of red, green and blue; all have the white D65.
_PRIMARIES = {
    1: ("BT.709", ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
}
_D65 = (0.3127, 0.3290)
_MATRIX_BT2020, _MATRIX_UNSPECIFIED = 9, 2

WHITE = 203.0  # cd/m2 of the white of text and paper (BT.2408)
_PEAK = 1000.0  # cd/m2 of the brightest pixel where the file does not say; HLG's nominal one
_HIGHEST = 10_000.0  # cd/m2 at PQ's code 1
_GAMMA = 2.4  # of an ordinary screen (BT.1886)
_CUBE = 65  # colours on a side of the cube


class Mapping:
    """A mapping of a film's colours to BT.709.

    Args:
        frame: a decoded frame of the film, which names its transfer curve, primaries and brightest pixel.

    Attributes:
        name: of what the film has, such as ``PQ, BT.2020``; empty: it is an ordinary film, and nothing is to be done.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        self._transfer = _TRANSFERS.get(int(frame.color_trc), SDR)
        primaries = int(frame.color_primaries)
        if primaries not in _PRIMARIES:
            primaries = 9 if self._transfer != SDR else 1
        self._primaries = primaries
        self._peak = peak_of(frame) if self._transfer == PQ else _PEAK
        ordinary = self._transfer == SDR and primaries == 1
        self.name = "" if ordinary else ", ".join([self._transfer, _PRIMARIES[primaries][0]])

    def to_rgb(self) -> Filtered:
        """Return the conversion of frames to 8-bit RGB in BT.709; call :meth:`tag` on a frame first."""
        # FFmpeg's options end at a colon and quote by apostrophes.
        cube = re.sub(r"([\\':])", r"\\\1", _cube_file(self._transfer, self._primaries, self._peak).name)
        flags = "flags=bilinear+accurate_rnd+full_chroma_int"
        return Filtered(
            [
                ("scale", flags),
                ("format", "gbrp16le"),
                ("lut3d", f"file={cube}:interp=tetrahedral"),
                ("scale", flags),
                ("format", "rgb24"),
            ]
        )

    def tag(self, frame: av.VideoFrame) -> None:
        """Name the matrix where a frame does not: that of its primaries."""
        if frame.colorspace == _MATRIX_UNSPECIFIED and self._primaries == 9:
            frame.colorspace = _MATRIX_BT2020


def peak_of(frame: av.VideoFrame) -> float:
    """cd/m2 of a film's brightest pixel: its MaxCLL, else its mastering screen's, else 1000."""
    data = {item.type.name: bytes(item) for item in frame.side_data}
    found = 0.0
    if "CONTENT_LIGHT_LEVEL" in data:
        found = float(struct.unpack_from("=I", data["CONTENT_LIGHT_LEVEL"])[0])
    if not found and "MASTERING_DISPLAY_METADATA" in data:
        numbers = struct.unpack_from("=22i", data["MASTERING_DISPLAY_METADATA"])
        if numbers[21] and numbers[19]:
            found = numbers[18] / numbers[19]
    return float(np.clip(found, WHITE, _HIGHEST)) if found else _PEAK


def to_bt709(codes: np.ndarray, transfer: str, primaries: int, peak: float = _PEAK) -> np.ndarray:
    """Convert a film's colours to BT.709.

    Args:
        codes: (..., 3) R'G'B' in [0, 1], as they are coded.
        transfer: ``PQ``, ``HLG`` or ``SDR``.
        primaries: H.273's number: 1 BT.709, 9 BT.2020, 12 Display P3.
        peak: cd/m2 of the film's brightest pixel.

    Returns:
        (..., 3) R'G'B' in [0, 1] for a screen of gamma 2.4; colours beyond BT.709 come nearer to grey until
        they are inside.
    """
    codes = np.clip(np.asarray(codes, np.float64), 0, 1)
    if transfer == SDR:
        light = codes**_GAMMA
    else:
        display = _pq_to_light(codes) if transfer == PQ else _hlg_to_light(codes, primaries)
        brightest = display.max(-1, keepdims=True)
        # One factor for all three, so that the hue stays.
        light = display * (_rolled_off(brightest, peak) / np.maximum(brightest, 1e-9)) / WHITE
    matrix = np.linalg.inv(_to_xyz(1)) @ _to_xyz(primaries)
    return np.clip(_desaturated(light @ matrix.T), 0, 1) ** (1 / _GAMMA)


def _desaturated(light: np.ndarray) -> np.ndarray:
    """Linear BT.709, each colour as near to the grey of its luminance as brings it inside: hue and luminance stay."""
    grey = (light @ _to_xyz(1)[1])[..., None].clip(1e-9, 1)
    away = light - grey
    room = np.where(away > 0, 1 - grey, grey)
    share = np.min(room / np.maximum(np.abs(away), 1e-9), axis=-1, keepdims=True)
    return grey + np.minimum(share, 1) * away


def _rolled_off(light: np.ndarray, peak: float) -> np.ndarray:
    """cd/m2 of a film of brightest ``peak`` on a screen of brightest :data:`WHITE`: BT.2390's curve, in PQ's codes."""
    if peak <= WHITE:
        return np.minimum(light, WHITE)
    top = float(_light_to_pq(np.array(peak)))
    most = float(_light_to_pq(np.array(WHITE))) / top
    knee = 1.5 * most - 0.5
    codes = np.minimum(_light_to_pq(light) / top, 1)
    t = np.maximum(codes - knee, 0) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return np.where(codes < knee, light, _pq_to_light(bent * top))


# SMPTE ST 2084.
_M1, _M2, _C1, _C2, _C3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128


def _pq_to_light(codes: np.ndarray) -> np.ndarray:
    power = codes ** (1 / _M2)
    return _HIGHEST * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _light_to_pq(light: np.ndarray) -> np.ndarray:
    power = (light / _HIGHEST) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_to_light(codes: np.ndarray, primaries: int) -> np.ndarray:
    """BT.2100's HLG on its nominal screen of 1000 cd/m2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    brightness = scene @ _to_xyz(primaries)[1]
    return _PEAK * scene * np.maximum(brightness, 1e-9)[..., None] ** 0.2


def _to_xyz(primaries: int) -> np.ndarray:
    """(3, 3) from linear RGB of some primaries to XYZ; white has Y = 1."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _PRIMARIES[primaries][1]]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))


@lru_cache(maxsize=4)
def _cube_file(transfer: str, primaries: int, peak: float) -> IO[str]:
    """Write the mapping to a .cube file that is deleted when the process ends."""
    steps = np.linspace(0, 1, _CUBE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red runs fastest
    colours = to_bt709(np.stack([red, green, blue], axis=-1), transfer, primaries, peak).reshape(-1, 3)
    file = tempfile.NamedTemporaryFile("w", prefix="ipfvr-", suffix=".cube")  # noqa: SIM115 (it is read later)
    lines = [f"LUT_3D_SIZE {_CUBE}", *(f"{red:.6f} {green:.6f} {blue:.6f}" for red, green, blue in colours.tolist())]
    file.write("\n".join(lines))
    file.flush()
    return file
