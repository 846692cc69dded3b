"""Applying Eq. 13 to a video file of any length."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.degradation.pipeline import ENCODER_RATE, Parameters, before_last_encode
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter


def degrade_video(source: str | Path, output: str | Path, parameters: Parameters) -> dict[str, Any]:
    """Degrade a video file, frame by frame: memory does not grow with its length.

    The last H.264 encode of Eq. 13 is the file itself, so reading it gives exactly the frames of
    :func:`ipfvr.degradation.pipeline.degrade` on the whole clip. Times of the frames, the shape of the pixels and the
    sound are the source's.

    Returns:
        what was written: ``frames``, ``width``, ``height``, ``sound``.

    Raises:
        UserError: as :class:`VideoReader` and :class:`VideoWriter`, or input and output are one file.
    """
    reader = VideoReader(source)
    info = reader.info
    if Path(output).exists() and Path(output).samefile(info.path):
        raise UserError(f"{output} is the input itself; choose another output")
    width, height = info.width // parameters.scale, info.height // parameters.scale
    # The first round's encoder looks ahead, so the times wait here until their frames come out.
    times: deque[int] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in reader:
            times.append(frame.pts)
            yield frame.image

    with VideoWriter(
        output,
        width,
        height,
        info.rate,
        info.time_base,
        crf=parameters.rounds[-1].crf,
        sound_from=info.path,
        sample_aspect_ratio=info.sample_aspect_ratio,
        encoder_rate=ENCODER_RATE,
    ) as writer:
        for image in before_last_encode(images(), parameters):
            writer.write(image, times.popleft())
    return {"frames": writer.frames, "width": width, "height": height, "sound": writer.sound}
