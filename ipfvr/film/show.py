"""The pictures on the page of a restoration: frames chosen by the plan, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ipfvr.core.files import atomic
from ipfvr.faces.align import apply, invert, scale_of
from ipfvr.film.plan import Plan, Presence
from ipfvr.report.restored import Pair, Pictures, restored_page
from ipfvr.video.reader import VideoReader

FRAMES = 6  # whole frames on a page
_PAIRS = 3  # close-ups of one face
_WIDEST = 1280  # pixels; a wider frame is reduced
_CLOSE_UP = 360  # side of a close-up, pixels
_MARGIN = 0.8  # a close-up's share of the aligned crop's side; the crop is wider than a face


def choose_frames(plan: Plan) -> list[int]:
    """Choose at most :data:`FRAMES` frames, in rising order: where each person is largest, and others in between.

    Only frames with a restored face are chosen, because the others do not change.
    """
    largest = np.zeros(plan.stop)
    first: dict[str, tuple[float, int]] = {}
    for presence in plan.presences:
        start, stop = max(presence.start, plan.start), min(presence.stop, plan.stop)
        sizes = _sizes(presence, start, stop)
        largest[start:stop] = np.maximum(largest[start:stop], sizes)
        best = (float(sizes.max()), start + int(sizes.argmax()))
        first[presence.who] = max(first.get(presence.who, best), best, key=lambda pair: pair[0])
    chosen = {index for _, index in list(first.values())[:FRAMES]}
    for stretch in np.array_split(np.flatnonzero(largest), FRAMES):
        if len(stretch) and len(chosen) < FRAMES and not chosen.intersection(stretch.tolist()):
            # Not near the borders of a stretch, so that no two chosen frames are neighbours.
            inner = stretch[len(stretch) // 4 : max(len(stretch) // 4 + 1, 3 * len(stretch) // 4)]
            chosen.add(int(inner[largest[inner].argmax()]))
    return sorted(chosen)


def write_page(
    path: Path,
    report: Mapping[str, Any],
    plan: Plan,
    reader: VideoReader,
    before: Mapping[int, np.ndarray],
    after: Mapping[int, np.ndarray],
    references: Mapping[str, Sequence[np.ndarray]],
    square: bool = False,
) -> None:
    """Write the page of a restoration.

    Args:
        path: the path of the page.
        report: the content of the JSON beside it.
        plan: the plan of the restoration.
        reader: the source; it gives the times of frames and the aspect ratio of a pixel.
        before: some frames of the source by number, (H, W, 3) uint8 RGB.
        after: the same frames as written; they may be larger.
        references: aligned crops of each person's pictures, by name.
        square: whether the output is the face crop and not whole frames.
    """
    size = report["configuration"]["video"]["size"]
    aspect = 1.0 if square else float(reader.info.sample_aspect_ratio)
    frames: list[Pair] = []
    faces: dict[str, list[tuple[float, Pair]]] = {}
    for index in sorted(before.keys() & after.keys()):
        source, written = before[index], after[index]
        here = [presence for presence in plan.presences if presence.start <= index < presence.stop]
        image = here[0].low(index, source, size) if square and here else source
        image = cv2.resize(image, written.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        title = f"frame {index}, {reader.time_of(index):.2f} s"
        frames.append(Pair(title, _shown(image, aspect), _shown(written, aspect)))
        for presence in here:
            part: tuple[slice, ...] = ()
            if not square:
                part = close_up(presence, index, size, source.shape[1::-1], written.shape[1::-1])
            pair = Pair(title, *(_shown(picture[part], aspect, _CLOSE_UP) for picture in (image, written)))
            faces.setdefault(presence.who, []).append((float(_sizes(presence, index, index + 1)[0]), pair))
    close = {
        who: [pair for _, pair in sorted(pairs, key=lambda entry: -entry[0])[:_PAIRS]] for who, pairs in faces.items()
    }
    with atomic(path) as temporary:
        temporary.write_text(restored_page(report, Pictures(frames, close, references)))


def _sizes(presence: Presence, start: int, stop: int) -> np.ndarray:
    """Return the size of a face in each frame: the spread of its landmarks, halved where the face was not detected."""
    if presence.track is None:
        return np.ones(stop - start)
    inside = slice(start - presence.start, stop - presence.start)
    points = presence.track.landmarks[inside]
    spread = np.linalg.norm(points - points.mean(1, keepdims=True), axis=(1, 2))
    return np.maximum(spread, 1e-6) * np.where(presence.track.detected[inside], 1.0, 0.5)


def close_up(
    presence: Presence, index: int, size: int, source: tuple[int, int], shown: tuple[int, int]
) -> tuple[slice, slice]:
    """Return the rows and columns of a picture that show a face closely.

    Args:
        presence: the face.
        index: the frame.
        size: the side of the aligned crop, pixels.
        source: (width, height) of the source's frames.
        shown: (width, height) of the picture.
    """
    matrix = presence.matrix(index, size)
    factor = shown[0] / source[0]
    side = min(round(_MARGIN * size / scale_of(matrix) * factor), *shown)
    middle = apply(invert(matrix), np.full((1, 2), (size - 1) / 2))[0] * factor
    left, top = (int(np.clip(round(m - side / 2), 0, s - side)) for m, s in zip(middle, shown, strict=True))
    return slice(top, top + side), slice(left, left + side)


def _shown(image: np.ndarray, aspect: float, width: int = _WIDEST) -> np.ndarray:
    """Return a picture with square pixels that is at most ``width`` wide."""
    wide, high = image.shape[1] * aspect, image.shape[0]
    scale = min(1.0, width / wide)
    extent = (max(1, round(wide * scale)), max(1, round(high * scale)))
    return image if extent == image.shape[1::-1] else cv2.resize(image, extent, interpolation=cv2.INTER_AREA)
