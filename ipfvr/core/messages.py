"""What appears on the terminal beside results: the project's messages, and nothing of the libraries under it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

_LIGHTNING = ("pytorch_lightning", "lightning_fabric")
# Warnings of Lightning and torch that are right and that nobody can act on: workers are data.workers, a test has its
# own sampler, the frozen networks are meant to be in eval mode, checkpoints are renamed into a folder that is there.
_HARMLESS = (
    "many workers|no `val_dataloader`|in eval mode at the start|not exist on disk|exists and is not empty|litlogger|"
    "LeafSpec|DistributedSampler|dirpath has changed|callbacks used to create the checkpoint|across ranks is zero"
)


class _ToStderr(logging.Handler):
    """Prints a line to what ``sys.stderr`` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def show_messages(level: int = logging.INFO) -> None:
    """Print the messages of ``logging.getLogger("ipfvr...")`` from a level on to stderr, a line each.

    Programs call it; whoever uses the package as a library configures logging as usual and sees warnings only
    otherwise. A second call does not print twice.

    Args:
        level: INFO, with bars; WARNING: neither messages nor bars.
    """
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("ipfvr")
    logger.handlers = [handler]
    logger.setLevel(level)


def progress_bar(total: int | None, what: str, unit: str, *, shown: bool = True) -> tqdm:
    """A bar on stderr with the time left, where messages of level INFO are shown, and where not a bar that is none.

    Args:
        total: how many there are; None: nobody knows.
        what: is done.
        unit: of what is counted.
        shown: False: none in any case, such as in all processes but the first.
    """
    shown = shown and logging.getLogger("ipfvr").isEnabledFor(logging.INFO)
    return tqdm(total=total, desc=what, unit=unit, leave=False, disable=not shown)


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
