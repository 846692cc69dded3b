"""Writing files so that they are complete or absent."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ipfvr.core.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def reason_of(error: Exception) -> str:
    """Return the reason why a file could not be written, and the remedy where the disk is full."""
    reason = getattr(error, "strerror", None) or str(error)
    return reason + ("; make room and run it again" if getattr(error, "errno", None) in _FULL else "")


def check_writable(path: str | Path) -> None:
    """Make the folder of ``path`` and see that a file can be written there.

    Raises:
        UserError: the folder cannot be made or written, or ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another output") from None
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: the folder {path.parent} is not writable; choose another output")


@contextmanager
def _full_disk_as_user_error(path: Path) -> Iterator[None]:
    """Turn a full disk inside the block into a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(f"cannot write {path}: {reason_of(error)}") from None
        raise


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` when the block ends without an error.

    After an exception the temporary file is removed and ``path`` is as it was before.

    Raises:
        UserError: as :func:`check_writable`, or the disk is full.
    """
    path = Path(path)
    check_writable(path)
    # The suffix stays last: containers and image formats are chosen by it.
    temporary = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        with _full_disk_as_user_error(path):
            yield temporary
            # Some writers create files for their owner alone; a result is readable like any other file.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; it replaces ``path`` when the block ends without an error.

    After an exception the temporary folder is removed and ``path`` is as it was before.

    Raises:
        UserError: ``path`` is a file, its folder cannot be written, or the disk is full.
    """
    path = Path(path)
    if path.is_file():
        raise UserError(f"cannot write the folder {path}: it is a file; choose another output")
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    check_writable(temporary)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _full_disk_as_user_error(path):
            temporary.mkdir()
            yield temporary
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Hold the lock of ``path`` inside the block, so that one process of this machine at a time makes it.

    The lock is a hidden file beside ``path``, which is removed when the block ends.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _locked(lock: Path) -> IO[str]:
    """Return the file that others wait for; not one that its holder removed while this process waited for it."""
    while True:
        file = lock.open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        file.close()


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON, completely or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")
