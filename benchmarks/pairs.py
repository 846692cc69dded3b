"""Two ways of doing a thing, timed in turns: what the machine does beside it falls on both."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch


def time_pairs(
    first: Callable[[], object], second: Callable[[], object], repeats: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Time two ways in turns, after one run of each that does not count.

    Args:
        first, second: do it once.
        repeats: pairs.
        device: on a GPU it is waited for and the clock is the wall's, else it is the processor's.

    Returns:
        The medians of their seconds (2,), and the quartiles of first / second (3,).
    """
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time

    def seconds(work: Callable[[], object]) -> float:
        began = clock()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        return clock() - began

    seconds(first), seconds(second)
    pairs = np.array([[seconds(first), seconds(second)] for _ in range(repeats)])
    return np.median(pairs, 0), np.quantile(pairs[:, 0] / pairs[:, 1], [0.25, 0.5, 0.75])


def print_ratio(medians: np.ndarray, quartiles: np.ndarray, limit: float) -> int:
    """Print what :func:`time_pairs` found; the exit status, 1 above the limit of the ratio."""
    low, ratio, high = quartiles
    print(f"with {medians[0]:.3f} s, without {medians[1]:.3f} s (medians)")
    print(f"ratio: median {ratio:.3f}, quartiles {low:.3f} to {high:.3f} (limit {limit})")
    return int(ratio > limit)
