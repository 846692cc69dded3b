"""Interlaced film: recognising it by its pictures and flags, and deinterlacing it with FFmpeg's bwdif.

An interlaced frame holds two moments, one in its even lines (the top field) and one in its odd ones. Whatever moves
shows combs, which detectors and networks do not know.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import av

from ipfvr.video.graph import Filtered
from ipfvr.video.opening import decode, opened, video_stream

_STRETCHES, _LOOK = 3, 40  # stretches of a film that are examined, and frames in each
_LEAST = 8  # frames that idet must have decided on; otherwise the flags decide
_COMBED = 0.25  # share of them from which a film is interlaced: of a film carried over from 24 frames it is 0.4
_ONE_WAY = 3  # real fields come in one order: so many times as many frames must have it as have the other

Broken = tuple[av.VideoFrame, bool]  # a frame, and whether packets before it could not be decoded


def field_order(path: Path) -> tuple[str, bool]:
    """Find out whether a film is interlaced, and which field comes first.

    FFmpeg's idet looks at the beginning and at two more places. Flags decide only where it cannot, as where nothing
    moves: many progressive films are flagged as interlaced, and files that were converted carelessly are not.

    Args:
        path: a file whose first frame can be decoded.

    Returns:
        ``tff``, ``bff`` or, of a film that is not interlaced, an empty text; and whether the flags say otherwise.
    """
    seen: Counter[str] = Counter()
    with opened(path) as container:
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or 25)
        seconds = (container.duration or 0) / av.time_base
        start = (container.start_time or 0) / av.time_base
        long = seconds * rate > 2 * _STRETCHES * _LOOK
        for number in range(_STRETCHES if long else 1):
            try:
                if number:
                    container.seek(round((start + seconds * number / _STRETCHES) * av.time_base))
                seen += _look(islice(decode(container, stream, True), _LOOK if long else 2 * _STRETCHES * _LOOK))
            except av.error.FFmpegError:
                continue  # where nothing can be sought or decoded nothing is seen
    flagged = 2 * seen["flagged"] > seen["frames"]
    fields, other = max(seen["tff"], seen["bff"]), min(seen["tff"], seen["bff"])
    decided = fields + other + seen["progressive"]
    seems = fields + other >= _COMBED * decided and fields >= _ONE_WAY * other
    combed = seems if decided >= _LEAST else flagged
    return ("bff" if seen["bff"] > seen["tff"] else "tff") if combed else "", combed != flagged


def _look(frames: Iterable[Broken]) -> Counter[str]:
    """Return the number of frames that were examined, of those flagged as interlaced, and idet's verdict on each."""
    seen: Counter[str] = Counter()
    looking = Filtered([("idet", "")])

    def count(shown: Iterable[av.VideoFrame]) -> None:
        seen.update(frame.metadata.get("lavfi.idet.multiple.current_frame", "") for frame in shown)

    size = None
    for frame, _ in frames:
        if (frame.width, frame.height) != (size or (frame.width, frame.height)):
            break
        size = (frame.width, frame.height)
        seen["frames"] += 1
        seen["flagged"] += bool(frame.interlaced_frame)
        count(looking.push(frame))
    count(looking.end())
    return seen


def deinterlaced(frames: Iterable[Broken], order: str, each_field: bool) -> Iterator[Broken]:
    """Deinterlace frames.

    Args:
        frames: decoded, of one size; where the size changes, the rest goes through as it is.
        order: ``tff`` or ``bff``.
        each_field: two frames are made of each, at half the time between; their times are in half the unit.
    """
    mode = "send_field" if each_field else "send_frame"
    bwdif = Filtered([("bwdif", f"mode={mode}:parity={order}:deint=all")])
    broken: deque[bool] = deque()
    first = True

    def made(shown: Iterable[av.VideoFrame]) -> Iterator[Broken]:
        nonlocal first
        for frame in shown:
            # Its times are in half the unit of what it was given.
            if not each_field and frame.pts is not None:
                frame.pts //= 2
            yield frame, broken.popleft() if first else False
            first = not each_field or not first

    size = None
    frames = iter(frames)
    for frame, bad in frames:
        if size is not None and (frame.width, frame.height) != size:
            yield from made(bwdif.end())
            yield frame, bad
            yield from frames
            return
        size = (frame.width, frame.height)
        broken.append(bad)
        yield from made(bwdif.push(frame))
    yield from made(bwdif.end())


def field_times(times: array[int], step: int) -> array[int]:
    """The times of frames made of single fields, as bwdif defines them: half way to the next frame, in half the unit.

    Args:
        times: of whole frames, rising.
        step: from one to the next, where there is but one.
    """
    last = times[-1] - times[-2] if len(times) > 1 else step
    following = [*times[1:], times[-1] + last]
    return array("q", [t for now, then in zip(times, following, strict=True) for t in (2 * now, now + then)])
