"""Reading a few frames of a long file."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ipfvr.video.colour import to_rgb
from ipfvr.video.reader import VideoReader


def pick_frames(path: Path, indices: Collection[int]) -> dict[int, np.ndarray]:
    """Some frames of a video that this package has written, by their numbers: (H, W, 3) uint8 RGB each.

    Only what lies between a frame and the key frame before it is decoded, so that the length of the film costs nothing.
    """
    reader = VideoReader(path)
    height, width, half = reader.info.height, reader.info.width, 0.5 / float(reader.info.rate)
    found: dict[int, np.ndarray] = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = Fraction(container.start_time or 0, av.time_base)
        times = {index: reader.time_of(index) + float(start) for index in sorted(indices)}
        for index, time in times.items():
            container.seek(int(time / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                # A frame's own time, to within what its container's unit rounds away.
                if frame.time >= time - half * 1e-3:
                    found[index] = np.ascontiguousarray(to_rgb(frame)[:height, :width])
                    break
    return found
