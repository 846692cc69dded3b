"""The division of the CPU cores among the processes that make training data."""

from __future__ import annotations

import sys

import cv2


def one_thread(worker: int = 0) -> None:
    """Limit this process to one thread, because other processes of its kind run at the same time.

    Args:
        worker: its number, which PyTorch gives to those of a ``DataLoader``.
    """
    cv2.setNumThreads(1)
    if "torch" in sys.modules:  # a process that only encodes H.264 does without, and starts sooner
        sys.modules["torch"].set_num_threads(1)
