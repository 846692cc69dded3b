"""The messages on the terminal beside results: those of this project, without those of its libraries."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

_LIGHTNING = ("pytorch_lightning", "lightning_fabric")
# Warnings of Lightning and torch that are correct but need no action: data.workers sets the workers, a test has its own
# sampler, frozen networks are in eval mode on purpose, and checkpoints are renamed into an existing folder.
_HARMLESS = (
    "many workers|no `val_dataloader`|in eval mode at the start|not exist on disk|exists and is not empty|litlogger|"
    "LeafSpec|DistributedSampler|dirpath has changed|callbacks used to create the checkpoint|across ranks is zero"
)


class _ToStderr(logging.Handler):
    """A handler that prints to the current ``sys.stderr``, also after it has been replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def show_messages(level: int = logging.INFO) -> None:
    """Print the messages of ``logging.getLogger("ipfvr...")`` from a level on to stderr, one line each.

    Programs call this function. A user of the library configures logging as usual, and otherwise sees only warnings. A
    second call replaces the first.

    Args:
        level: INFO shows messages and progress bars; WARNING shows warnings only.
    """
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("ipfvr")
    logger.handlers = [handler]
    logger.setLevel(level)


def progress_bar(total: int | None, what: str, unit: str, *, shown: bool = True) -> tqdm:
    """Make a progress bar on stderr with the time left; it is invisible if messages of level INFO are not shown.

    Args:
        total: the number of units; None: unknown.
        what: the name of the work.
        unit: the name of one unit.
        shown: False hides the bar in any case, such as in every process but the first.
    """
    shown = shown and logging.getLogger("ipfvr").isEnabledFor(logging.INFO)
    return tqdm(total=total, desc=what, unit=unit, leave=False, disable=not shown)


@contextmanager
def quiet_lightning(warn: bool = True) -> Iterator[None]:
    """Silence Lightning inside the block: its tips, its list of devices, and warnings that need no action.

    Args:
        warn: False silences all warnings, for a training that ``restore`` starts for its user.
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
