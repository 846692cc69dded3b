"""How the processes that make training data share the processors."""

from __future__ import annotations

import sys

import cv2


def one_thread(worker: int = 0) -> None:
    """Let this process use one thread, since others of its kind run beside it.

    Args:
        worker: its number, which PyTorch gives to those of a ``DataLoader``.
    """
    cv2.setNumThreads(1)
    if "torch" in sys.modules:  # a process that only encodes H.264 does without, and starts sooner
        sys.modules["torch"].set_num_threads(1)
