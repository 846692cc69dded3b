"""Consistency from frame to frame: the flow warping error (E_warp)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ipfvr.core.hashes import sha256
from ipfvr.core.shapes import Bool, Float
from ipfvr.metrics.base import FrameMetric
from ipfvr.metrics.columns import labelled
from ipfvr.metrics.flow import Flow


def warp(picture: Float[Tensor, "c h w"], flow: Float[Tensor, "2 h w"]) -> Float[Tensor, "c h w"]:
    """Bring a picture back along a flow: out(p) = picture(p + flow(p)), bilinear, the border repeated outside.

    A flow of whole pixels moves pixels and changes none.

    Args:
        picture: (C, H, W) float64.
        flow: (2, H, W), (x, y) in pixels.

    Examples:
        >>> picture = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64)
        >>> flow = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 1, 3)  # everything moves by one pixel
        >>> warp(picture, flow)
        tensor([[[2., 3., 3.]]], dtype=torch.float64)
    """
    height, width = picture.shape[-2:]
    x, y = (flow.double() + _grid(height, width, flow.device)).unbind()
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    across, down = x - left, y - top
    upper = picture[:, top, left] * (1 - across) + picture[:, top, right] * across
    lower = picture[:, bottom, left] * (1 - across) + picture[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def visible_pixels(forward: Float[Tensor, "2 h w"], backward: Float[Tensor, "2 h w"]) -> Bool[Tensor, "h w"]:
    """Pixels of a frame that the next one shows too (Ruder et al. 2016, as Lai et al. 2018 have it), (H, W) bool.

    With w the forward flow and w' the backward flow where w leads, a pixel is left out where the two do not cancel,
    ``|w + w'|^2 > 0.01 (|w|^2 + |w'|^2) + 0.5``, and at borders of motion, ``|grad w|^2 > 0.01 |w|^2 + 0.002``. Beyond
    Lai et al. it is left out where w leads out of the frame.

    Args:
        forward, backward: (2, H, W) flows from the frame to the next and back, (x, y) in pixels.
    """
    forward, backward = forward.double(), backward.double()
    returned = warp(backward, forward)
    length, returned_length = forward.square().sum(0), returned.square().sum(0)
    occluded = (forward + returned).square().sum(0) > 0.01 * (length + returned_length) + 0.5
    steps = torch.zeros_like(length)
    steps[:, :-1] += forward.diff(dim=2).square().sum(0)
    steps[:-1] += forward.diff(dim=1).square().sum(0)
    height, width = length.shape
    x, y = forward + _grid(height, width, forward.device)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return inside & ~occluded & (steps <= 0.01 * length + 0.002)


def warping_error(
    first: Float[Tensor, "3 h w"],
    second: Float[Tensor, "3 h w"],
    flow: Float[Tensor, "2 h w"],
    visible: Bool[Tensor, "h w"],
) -> Float[Tensor, ""]:
    """E_warp = sum_p M(p) |V_{t+1}(p + w(p)) - V_t(p)|^2 / (3 sum_p M(p)) (Lai et al. 2018, section 4.1).

    Args:
        first, second: consecutive frames V_t, V_{t+1} of the video that is judged, (3, H, W) RGB in [0, 1].
        flow: w, (2, H, W) from the first to the second, (x, y) in pixels.
        visible: M, (H, W) bool, see :func:`visible_pixels`.

    Returns:
        shape (), the mean square over visible pixels and channels; NaN where no pixel is visible (Lai et al.: 0).
    """
    error = (warp(second.double(), flow) - first.double()).square()
    return error[:, visible].mean()


class WarpingError(FrameMetric):
    """:func:`warping_error` x 1000, mean over the pairs of consecutive frames of a clip, then over clips.

    ``update(prediction)`` or ``update(prediction, target)``: frames (F, 3, H, W) in [0, 1]. The last are kept for the
    next update, and ``end_clip`` deletes them, so that no pair spans two clips.

    Attributes:
        latest: one entry per frame, of the pair that ends with it; NaN for a clip's first.
        visible: the share of visible pixels of the same pairs.

    Args:
        source: whose frames the flow and the visible pixels are from: ``gt``, the ground truth's, or ``own``, those of
            the video that is judged; part of the number's name.
        flow: finds it, and is part of the number's name; None leaves its name out (for a label without a number).
    """

    higher_is_better = False

    def __init__(self, source: str, flow: Flow | None = None, **kwargs: Any) -> None:
        info = labelled(f"e_warp_{source}")
        if flow is not None:
            network = flow.name + "".join(f" (sha256 {sha256(path)})" for path in flow.weights.values())
            info = labelled(info.key, network, flow.licence, by=flow.name)
        super().__init__(info, **kwargs)
        self.flow = flow
        self.visible: Tensor = torch.empty(0)
        self._before: tuple[Tensor, Tensor] | None = None

    def score(self, prediction: Tensor, target: Tensor | None = None) -> Tensor:
        shown = prediction if target is None else target
        if self._before is not None:
            prediction = torch.cat([self._before[0], prediction])
            shown = torch.cat([self._before[1], shown])
        kept = 0 if self._before is None else 1
        errors, shares = [], []
        for frame in range(kept, len(prediction)):
            if frame == 0:
                error = share = torch.tensor(torch.nan, dtype=torch.float64, device=prediction.device)
            else:
                error, share = self._pair(prediction[frame - 1 : frame + 1], shown[frame - 1 : frame + 1])
            errors.append(error)
            shares.append(share)
        self._before = prediction[-1:].clone(), shown[-1:].clone()
        self.visible = torch.stack(shares)
        return torch.stack(errors)

    def _pair(self, judged: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        # Both directions in one call: a network runs them as a batch.
        forward, backward = self.flow.estimate(shown, shown.flip(0))
        visible = visible_pixels(forward, backward)
        return 1000 * warping_error(*judged, forward, visible), visible.double().mean()

    def clear_clip(self) -> None:
        super().clear_clip()
        self._before = None

    def reset(self) -> None:
        """Forget everything, the open clip's last frames too."""
        super().reset()
        self._before = None


def _grid(height: int, width: int, device: torch.device) -> Tensor:
    """(2, H, W): x and y of every pixel."""
    y, x = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64, device=device) for n in (height, width)), indexing="ij"
    )
    return torch.stack([x, y])
