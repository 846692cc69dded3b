"""Cutting a video into overlapping clips."""

from __future__ import annotations

from dataclasses import dataclass

from ipfvr.core.errors import UserError


@dataclass(frozen=True)
class ClipWindow:
    """One clip of a video.

    Attributes:
        start: its first frame.
        stop: the frame after its last.
        keep_start: the first frame whose result is kept; those before it are context that an earlier clip has kept.
    """

    start: int
    stop: int
    keep_start: int


def clip_windows(frames: int, clip_frames: int, overlap: int) -> list[ClipWindow]:
    """Cut ``frames`` frames into clips of ``clip_frames``, each sharing ``overlap`` frames with the one before.

    The last clip starts earlier, so that it is whole: it overlaps more and no frame is invented. A video shorter than
    a clip is one short clip. Every frame is kept exactly once, and what is kept of a clip reaches to its end.

    Args:
        frames: number of frames of the video, >= 0.
        clip_frames: F, >= 1.
        overlap: O, 0 <= O < F.

    Raises:
        UserError: numbers out of these ranges.

    Examples:
        >>> [(w.start, w.stop, w.keep_start) for w in clip_windows(frames=10, clip_frames=6, overlap=2)]
        [(0, 6, 0), (4, 10, 6)]
    """
    if frames < 0 or clip_frames < 1 or not 0 <= overlap < clip_frames:
        raise UserError(
            f"clips of {clip_frames} frames with an overlap of {overlap} are not possible: 0 <= overlap < clip_frames "
            "(video.overlap, video.clip_frames)"
        )
    windows: list[ClipWindow] = []
    kept = 0
    while kept < frames:
        stop = min(max(kept - overlap, 0) + clip_frames, frames)
        windows.append(ClipWindow(start=max(stop - clip_frames, 0), stop=stop, keep_start=kept))
        kept = stop
    return windows
