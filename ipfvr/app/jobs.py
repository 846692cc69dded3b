"""Jobs as folders: a command line each, which runs by itself and outlives the window and the server.

    jobs/20260131-120000-123456789-ab12/
      job.json      what is wanted: title, command, output, and what was last asked for (run, stop)
      lock          locked as long as the command runs, whoever has started it
      log           what it prints
      ended         its exit code

A command is one of this project's, which goes on where it stopped when it is given again.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ipfvr.app.progress import Progress, read_error, read_progress
from ipfvr.core.errors import UserError
from ipfvr.core.files import write_json

WAITING, RUNNING, STOPPING, STOPPED, DONE, FAILED = "waiting", "running", "stopping", "stopped", "done", "failed"
_TRIES = 3  # times a command that was killed from outside is given again
# The shell writes the exit code though the server may be gone; it lets the command alone have the signal.
_KEEP = 'trap : INT TERM; "$@"; code=$?; echo $code > "$0.part" && mv "$0.part" "$0"'

# Bars are drawn though nobody looks at a terminal: a training's by rich, all others by tqdm.
_BARS = {"TQDM_MININTERVAL": "0.5", "FORCE_COLOR": "1", "COLUMNS": "120"}


@dataclass(frozen=True)
class Record:
    """The content of ``job.json``.

    Attributes:
        title: such as the film's name.
        kind: ``film``, ``photo`` or ``person``.
        command: the command line, as it is shown for copying.
        source: what is shown beside the result.
        output: the file or folder that is made.
        wanted: ``run``, ``stop``, or ``kill``, which was asked for after ``stop``.
        tries: how often the command was given.
        leader: process that the signals go to.
    """

    title: str
    kind: str
    command: str
    source: str
    output: str
    wanted: str = "run"
    tries: int = 0
    leader: int = 0


@dataclass(frozen=True)
class State:
    """The state of a job, its progress, and the reason if it failed."""

    name: str
    progress: Progress | None = None
    error: str = ""


class Jobs:
    """The jobs in a folder.

    Args:
        folder: where they lie; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def new_folder(self) -> Path:
        """Return a folder for a job that is about to be added."""
        now = time.time_ns()
        when = time.strftime("%Y%m%d-%H%M%S", time.localtime(now // 10**9))
        path = self.folder / f"{when}-{now % 10**9:09d}-{secrets.token_hex(2)}"  # names sort as they were made
        path.mkdir()
        return path

    def add(self, folder: Path, record: Record) -> None:
        """Put a job at the end of the queue."""
        write_json(folder / "job.json", asdict(record))

    def all(self) -> list[Path]:
        """Return the folders of all jobs, the oldest first."""
        return sorted(path.parent for path in self.folder.glob("[!.]*/job.json"))

    def find(self, name: str) -> Path:
        """Return the folder of the job with a name.

        Raises:
            UserError: there is none.
        """
        found = next((folder for folder in self.all() if folder.name == name), None)
        if found is None:
            raise UserError("that job is gone")
        return found

    def stop(self, name: str) -> None:
        """End a job's command as Ctrl-C does, so that it can be resumed; a second call kills it."""
        folder = self.find(name)
        record = read(folder)
        wanted = "kill" if record.wanted == "stop" and is_running(folder) else "stop"
        self.add(folder, replace(record, wanted=wanted))
        if is_running(folder) and record.leader:
            os.killpg(record.leader, signal.SIGKILL if wanted == "kill" else signal.SIGINT)

    def resume(self, name: str) -> None:
        """Start a job's command again."""
        folder = self.find(name)
        if not is_running(folder):
            (folder / "ended").unlink(missing_ok=True)
            self.add(folder, replace(read(folder), wanted="run", tries=0))

    def remove(self, name: str) -> None:
        """Remove a job and its results.

        Raises:
            UserError: it is running.
        """
        folder = self.find(name)
        if is_running(folder):
            raise UserError("it is running: stop it first")
        shutil.rmtree(folder)

    def start_next(self) -> Path | None:
        """Start the first waiting job unless one is running; return the folder of the started job."""
        states = [(folder, state_of(folder).name) for folder in self.all()]
        if any(state in (RUNNING, STOPPING) for _, state in states):
            return None
        for folder, state in states:
            if state == WAITING:
                return folder if _start(folder) else None
        return None


def read(folder: Path) -> Record:
    """Read a job's ``job.json``."""
    return Record(**json.loads((folder / "job.json").read_text()))


def state_of(folder: Path) -> State:
    """Return the state of a job, from its files alone."""
    record, log = read(folder), folder / "log"
    if is_running(folder):
        return State(RUNNING if record.wanted == "run" else STOPPING, read_progress(log))
    ended = folder / "ended"
    code = int(ended.read_text() or 1) if ended.is_file() else None
    if code == 0:
        return State(DONE)
    if record.wanted != "run":
        return State(STOPPED, read_progress(log))
    if code is not None:
        return State(FAILED, error=read_error(log))
    if record.tries >= _TRIES:
        return State(FAILED, error=f"it was killed {record.tries} times, perhaps for want of memory")
    return State(WAITING)  # never started, or killed with all that stood around it


def is_running(folder: Path) -> bool:
    """Return whether the job's command runs, which alone holds the lock."""
    lock = _locked(folder)
    if lock is None:
        return True
    os.close(lock)
    return False


def _locked(folder: Path) -> int | None:
    """Lock the job and return the lock's file descriptor; None: another process holds it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _start(folder: Path) -> bool:
    """Start a job's command in a session of its own; False: another server has started it."""
    lock = _locked(folder)
    if lock is None:
        return False
    try:
        record = read(folder)
        words = shlex.split(record.command)
        command = [sys.executable if words[0] == "python" else words[0], *words[1:]]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _KEEP, str(folder / "ended"), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **_BARS},
                start_new_session=True,
                pass_fds=(lock,),
            )
        write_json(folder / "job.json", asdict(replace(record, tries=record.tries + 1, leader=process.pid)))
    finally:
        os.close(lock)  # the command has it now, and holds it until it ends
    return True
