"""External processes: they run with their own interpreter, a time limit and a log, and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ipfvr.core.errors import UserError

# Variables of our interpreter, which would mislead another one.
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")


def run_program(words: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float, log: Path) -> int:
    """Run a command to its end.

    Args:
        words: the command line.
        folder: the working directory.
        environment: variables to add to those of this process, which are passed on without those of our Python.
        seconds: the time limit, after which the program and all its children are killed.
        log: the file to which its messages are appended.

    Returns:
        The exit code; negative if a signal ended the program.

    Raises:
        UserError: the program cannot be started, or it exceeds the time limit.
    """
    variables = {key: value for key, value in os.environ.items() if key not in _OURS}
    variables |= {"PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1", **environment}
    with log.open("ab") as printed:
        try:
            process = subprocess.Popen(
                list(words),
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,  # a prompt for input would wait for ever
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group, so that its children can be killed too
            )
        except OSError as error:
            raise UserError(f"cannot start {words[0]}: {error.strerror}") from None
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise UserError(f"it was stopped after {seconds:g} s, the time limit") from None
        finally:
            _end(process)


def last_line(log: Path) -> str:
    """Return the last line of a log, at most 200 characters of it; empty: there is none."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()] if log.is_file() else []
    return next((line[-200:] for line in reversed(lines) if line), "")


def _end(process: subprocess.Popen) -> None:
    """Kill the whole process group, because a program that has ended may have left children."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
