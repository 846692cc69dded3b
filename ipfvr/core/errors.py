"""Errors that a user can cause: one line, exit code 2, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ipfvr.core.messages import show_messages


class UserError(Exception):
    """A mistake that the user can correct.

    The message is one line that says what is wrong, where, and what to do.

    Attributes:
        status: the exit code of a verb that ends so.
    """

    status = 2


class NotComputedError(UserError):
    """A requested part could not be computed; the rest is done."""

    status = 3


def run_verb(main: Callable[[list[str] | None], None], argv: list[str] | None = None) -> int:
    """Run a verb's ``main``, show the project's messages, and turn user errors into one line and exit code 2.

    Args:
        main: takes the command line (``None`` means ``sys.argv[1:]``).
        argv: the command line.

    Returns:
        0 when ``main`` returned; the ``status`` of a :class:`UserError`, mostly 2; 130 after Ctrl-C; 141 where whoever
        reads the output has gone (``... | head``).
    """
    show_messages()
    try:
        main(argv)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is still to be written goes nowhere: Python's own last flush would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
