"""Running an external program: its own interpreter, a time limit, a log, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ipfvr.core.errors import UserError

# What belongs to our interpreter and would lead another one astray.
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")


def run_program(words: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float, log: Path) -> int:
    """Run a command to its end.

    Args:
        words: the command line.
        folder: where it runs.
        environment: variables on top of this process's, without those of our Python.
        seconds: after which it and what it has started are killed.
        log: what it prints is added to this file.

    Returns:
        Its exit code; that of a signal is negative.

    Raises:
        UserError: it cannot be started, or takes longer.
    """
    variables = {key: value for key, value in os.environ.items() if key not in _OURS}
    variables |= {"PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1", **environment}
    with log.open("ab") as printed:
        try:
            process = subprocess.Popen(
                list(words),
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,  # a question would wait for ever
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: what it starts ends with it
            )
        except OSError as error:
            raise UserError(f"cannot start {words[0]}: {error.strerror}") from None
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise UserError(f"was stopped after {seconds:g} s") from None
        finally:
            _end(process)


def last_line(log: Path) -> str:
    """The last line that was printed, at most 200 characters of it; empty where there is none."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()] if log.is_file() else []
    return next((line[-200:] for line in reversed(lines) if line), "")


def _end(process: subprocess.Popen) -> None:
    """Kill the program's whole group: a program that has ended may have left children."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
