"""The base of all metrics: labels, and averages over the frames of a clip and then over clips."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ipfvr.metrics.info import MetricInfo


class ClipMetric(Metric):
    """A mean over clips of one number per clip; the states are sums, so they add up over processes.

    Feed the frames of a clip in any number of ``update`` calls and end it with ``end_clip``. ``compute`` ends an
    open clip by itself, as does ``forward``, which scores its arguments as one whole clip. A process scores whole
    clips: the frames of one clip are never spread over processes.

    Subclasses hold the accumulators of the open clip, return the clip's number from ``clip_value`` (NaN: the clip
    has none and does not count) and clear the accumulators in ``clear_clip``.
    """

    is_differentiable = False
    full_state_update = False
    info: MetricInfo
    total: Tensor
    clips: Tensor
    frames: Tensor

    def __init__(self, info: MetricInfo, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.info = info
        self.set_dtype(torch.float64)
        self.add_sum("total")
        self.add_sum("clips")
        self.add_sum("frames")

    def add_sum(self, name: str) -> None:
        """Register a float64 state that starts at zero and is summed over processes."""
        self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def clip_value(self) -> Tensor:
        """Return the open clip's number, shape (); NaN where it has none."""
        raise NotImplementedError

    def clear_clip(self) -> None:
        """Forget the open clip."""
        self.frames = torch.zeros_like(self.frames)

    def end_clip(self) -> float:
        """Close the open clip, add it to the mean over clips and return its number (NaN: none)."""
        value = self.clip_value() if self.frames > 0 else torch.full_like(self.total, torch.nan)
        if torch.isfinite(value):
            self.total = self.total + value
            self.clips = self.clips + 1
        self.clear_clip()
        self._computed = None  # torchmetrics' cache of an earlier compute
        return float(value)

    def compute(self) -> Tensor:
        """Return the mean over clips, shape (); NaN before any clip has a number."""
        self.end_clip()
        return self.total / self.clips

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """End the open clip before the states are summed over processes."""
        self.end_clip()
        super().sync(*args, **kwargs)


class FrameMetric(ClipMetric):
    """A metric with one number per frame: mean over the frames of a clip, then over clips.

    ``latest`` holds the numbers of the last update's frames, shape (F,), NaN where a frame has none.
    """

    frame_total: Tensor

    def __init__(self, info: MetricInfo, **kwargs: Any) -> None:
        super().__init__(info, **kwargs)
        self.add_sum("frame_total")
        self.latest: Tensor = torch.empty(0)

    def score(self, *args: Tensor) -> Tensor:
        """Return one number per frame, shape (F,)."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, *args: Tensor) -> None:
        """Add frames to the open clip."""
        self.latest = self.score(*args).double()
        present = self.latest[torch.isfinite(self.latest)]
        self.frame_total = self.frame_total + present.sum()
        self.frames = self.frames + present.numel()

    def clip_value(self) -> Tensor:
        return self.frame_total / self.frames

    def clear_clip(self) -> None:
        super().clear_clip()
        self.frame_total = torch.zeros_like(self.frame_total)
