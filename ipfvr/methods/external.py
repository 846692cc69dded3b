"""A method that runs an external program by its description."""

from __future__ import annotations

import glob
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ipfvr.core.errors import UserError
from ipfvr.core.options import ProgramConfig
from ipfvr.methods.base import Case, Report, low_frames, write_frames
from ipfvr.methods.description import Description
from ipfvr.methods.exchange import Run, collect, prepare
from ipfvr.methods.process import last_line, run_program
from ipfvr.methods.settings import how_to_install, program_folder


class ExternalProgram:
    """An external program, see :class:`ipfvr.methods.base.Method`.

    If the program fails, its messages are kept beside the output as ``<output>.log``.

    Args:
        name: the name of the row.
        description: the description of the program.
        settings: its paths and values on this machine.
    """

    def __init__(self, name: str, description: Description, settings: ProgramConfig) -> None:
        self.name, self.description, self.config = name, description, settings
        self.title, self.licence, self.family = description.title, description.licence, description.family

    @property
    def folder(self) -> Path | None:
        """The folder of the program, see :func:`ipfvr.methods.settings.program_folder`."""
        return program_folder(self.name, self.config)

    @property
    def python(self) -> Path | None:
        """The program's interpreter: ``methods.<name>.python``, else the one in its folder."""
        if self.config.python:
            found = shutil.which(os.path.expanduser(self.config.python))
            return Path(found) if found else None
        places = [self.folder / place / "bin" / "python" for place in (".venv", "venv")] if self.folder else []
        return next((place for place in places if place.exists()), None)

    def missing(self) -> str | None:
        """See :class:`ipfvr.methods.base.Method`."""
        own, key, folder = self.description, f"methods.{self.name}", self.folder
        if folder is None:
            return how_to_install(self.name, own)
        if not folder.is_dir():
            return f"{key}.folder: there is no folder {folder}"
        for file in own.files:
            if not (folder / file).exists():
                return f"{folder} has no {file}: it is not a copy of {own.page}; give another {key}.folder"
        for file, source in own.weights.items():
            if not self._found(file):
                return f"weights of {self.title} are missing: put {file} into {folder}, from {source}"
        if any("{python}" in word for word in own.command) and self.python is None:
            where = f"{self.config.python} does not exist" if self.config.python else f"none in {folder}/.venv"
            return f"{self.title} has no interpreter ({where}): give {key}.python=/path/to/bin/python"
        if own.cuda and not torch.cuda.is_available():
            return f"{self.title} needs a CUDA device, but this machine has none: run it on a machine with one"
        return None

    def settings(self) -> dict[str, Any]:
        """Return the description, the program's commit and the values of this machine."""
        own = {key: value for key, value in asdict(self.config).items() if key in ("values", "landmarks")}
        return {"method": self.name, "description": asdict(self.description), "commit": self._commit(), **own}

    def restore(self, case: Case, output: Path) -> Report:
        """See :class:`ipfvr.methods.base.Method`."""
        reason = self.missing()
        if reason is not None:
            raise UserError(reason)
        began, output = time.perf_counter(), Path(output).resolve()
        output.parent.mkdir(parents=True, exist_ok=True)
        log = output.with_name(output.name + ".log")
        log.unlink(missing_ok=True)
        low = list(low_frames(case))
        frames, notes, commands = [], list(self.description.notes), []
        # The folder's name has no dot, because some programs take a name with a dot for a file.
        with tempfile.TemporaryDirectory(prefix="ipfvr", dir=output.parent) as folder:
            try:
                for run in prepare(self.description, self.config, case, low, Path(folder)):
                    words = self._words(run, case)
                    commands.append(shlex.join(words))
                    self._run(words, log)
                    frames += collect(self.description, case, run, notes)
            except UserError as error:
                printed = last_line(log)
                last = f"; the last line of {log}: {printed}" if printed else ""
                raise UserError(f"{self.title} on {case.name}: {error}{last}") from None
        write_frames(frames, case, output)
        log.unlink(missing_ok=True)
        weights = {file: path for file in self.description.weights for path in self._found(file)[:1]}
        command = commands[0] + (f"  (and {len(commands) - 1} more)" if len(commands) > 1 else "")
        return Report(time.perf_counter() - began, len(frames), tuple(dict.fromkeys(notes)), weights, command)

    def _words(self, run: Run, case: Case) -> list[str]:
        values = {"python": self.python, "folder": self.folder, "size": case.size, "fps": f"{float(case.fps):g}"}
        values |= {"seed": case.seed, **self.description.values, **self.config.values, **run.values}
        return [word.format_map(values) for word in self.description.command]

    def _run(self, words: list[str], log: Path) -> None:
        code = run_program(words, self.folder, self.description.environment, self.config.timeout, log)
        if code not in self.description.accept:
            raise UserError(f"it ended with exit code {code}")

    def _found(self, pattern: str) -> list[Path]:
        return [Path(path) for path in sorted(glob.glob(str(self.folder / pattern)))]

    def _commit(self) -> str:
        """Return the commit that is checked out; empty: git does not know it."""
        if self.folder is None or not (self.folder / ".git").exists():
            return ""
        line = ["git", "-C", str(self.folder), "rev-parse", "HEAD"]
        try:
            return subprocess.run(line, capture_output=True, text=True, timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ""
