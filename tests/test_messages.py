"""What the terminal shows: the project's messages once, Lightning's not."""

from __future__ import annotations

import logging
import warnings

import pytest

from ipfvr.core.errors import run_verb
from ipfvr.core.messages import quiet_lightning, show_messages

log = logging.getLogger("ipfvr.some.room")


@pytest.fixture(autouse=True)
def _as_before() -> None:
    """Give the logger of the package back as it was."""
    logger = logging.getLogger("ipfvr")
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers, logger.level = handlers, level


def test_a_program_shows_messages_once_and_a_library_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("nobody asked")
    show_messages()
    assert run_verb(lambda argv: log.info("note: %s", "a line")) == 0
    log.debug("a detail")
    shown = capsys.readouterr()
    assert shown.err == "note: a line\n"
    assert shown.out == ""


def test_lightning_is_silent_inside_the_block_alone() -> None:
    logger = logging.getLogger("pytorch_lightning")
    before = logger.level
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_lightning():
            assert not logger.isEnabledFor(logging.WARNING)
            warnings.warn("The dataloader does not have many workers", stacklevel=1)
            warnings.warn("the loss is not a number", stacklevel=1)
        with quiet_lightning(warn=False):
            warnings.warn("nothing that a user of restore can act on", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["the loss is not a number"]
    assert logger.level == before
