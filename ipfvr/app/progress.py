"""How far a command has come, read off what it prints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_TAIL = 8192  # bytes of the log that are looked at
# A bar of tqdm: "restoring:  45%|####      | 9/20 [00:03<00:04,  2.5step/s]".
_BAR = re.compile(r"([^\r\n|:]*): +(\d+)%\|[^|]*\| *([\d.]+\w?)/([\d.]+\w?) \[[\d:]+<([\d:]+|\?)")

# Lightning's, by rich: "Epoch 0/-2 ━━━━━━ 3/10 0:00:54 • 0:02:05 0.07it/s", between a terminal's escape sequences.
_RICH = re.compile(r"(\d+)/(\d+) +\d+:\d\d:\d\d • (\d+:\d\d:\d\d|-:--:--)")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Progress:
    """The phase of a command, its finished share (0 to 1), and the time left as the command prints it."""

    phase: str
    share: float
    left: str


def read_progress(log: Path) -> Progress | None:
    """Read the last progress bar of a log; None: there is none yet."""
    tail = _tail(log)
    if trained := _RICH.findall(tail):
        done, total, left = trained[-1]
        return Progress("training", int(done) / max(1, int(total)), left.removeprefix("0:").replace("-:--:--", ""))
    bars = _BAR.findall(tail)
    if not bars:
        return None
    phase, percent, *_, left = bars[-1]
    return Progress(phase.strip(), int(percent) / 100, "" if left == "?" else left)


def read_error(log: Path) -> str:
    """Return the error that ended a command: its own sentence, or its last line."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", _tail(log)) if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else (lines[-1] if lines else "it ended without a word")


def read_notes(log: Path) -> list[str]:
    """Return the notes of a command to its user, each once."""
    lines = re.split(r"[\r\n]+", _tail(log))
    notes = [line.strip().removeprefix("note: ") for line in lines if line.strip().startswith("note: ")]
    return list(dict.fromkeys(notes))


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        return _ESCAPES.sub("", file.read().decode(errors="replace"))
