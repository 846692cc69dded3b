"""What appears on the terminal beside results: the project's messages, and nothing of the libraries under it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIGHTNING = ("pytorch_lightning", "lightning_fabric")
# Warnings of Lightning and torch that are right and that nobody can act on: workers are data.workers, a test has its
# own sampler, the frozen networks are meant to be in eval mode, checkpoints are renamed into a folder that is there.
_HARMLESS = (
    "many workers|no `val_dataloader`|in eval mode at the start|not exist on disk|exists and is not empty|litlogger|"
    "LeafSpec|DistributedSampler|dirpath has changed|callbacks used to create the checkpoint|across ranks is zero"
)


def show_messages() -> None:
    """Print the messages of ``logging.getLogger("ipfvr...")`` from level INFO on to stderr, a line each.

    Programs call it; whoever uses the package as a library configures logging as usual and sees warnings only
    otherwise. A second call does not print twice.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("ipfvr")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


@contextmanager
def quiet_lightning(warn: bool = True) -> Iterator[None]:
    """Silence Lightning inside the block: its tips, its list of devices, its warnings that nobody can act on.

    Args:
        warn: False: all warnings are silenced, for a training that a user of ``restore`` did not write.
    """
    loggers = [logging.getLogger(name) for name in _LIGHTNING]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        if warn:
            warnings.filterwarnings("ignore", message=f".*({_HARMLESS}).*")
        else:
            warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
