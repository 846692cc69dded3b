"""Small stand-ins for networks whose weights are files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ipfvr.core.options import Config
from ipfvr.faces.recognise import Recogniser
from ipfvr.restoration.restorer import Restorer


class Nothing:
    """What a stub has computed before it is told of a branch."""

    def repeat(self, times: int) -> Nothing:
        """The same."""
        return self


class StubDenoiser:
    """The parts of a denoiser that are run before its prediction, empty."""

    def begin(self, **inputs: Tensor) -> tuple[Nothing, Nothing]:
        """The stems."""
        return Nothing(), Nothing()

    def control(self, stem: Nothing | None = None, **inputs: Tensor) -> list[Tensor]:
        """The ControlNet's features."""
        return []


class _Net(nn.Module):
    MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.map = nn.Linear(3 * 16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(nn.functional.avg_pool2d(x, 7).flatten(1))


def stub_recogniser(folder: Path) -> Recogniser:
    """A linear map of a shrunken face to 10 numbers, random but always the same."""
    (folder / "net").write_text("weights")
    return Recogniser(_Net(), "net", "none", folder / "net")


def lively(made: Callable[[Config], Restorer]) -> Callable[[Config], Restorer]:
    """A maker of restorers of random weights whose output depends on what they see.

    Layers that start at zero are given values.
    """

    def restorer(config: Config) -> Restorer:
        result = made(config)
        torch.manual_seed(0)
        for parameter in result.networks.denoiser.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.2)
        return result

    return restorer
