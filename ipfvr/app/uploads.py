"""Files from outside: checked, and taken into a folder of the app under a name that is no path."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ipfvr.app.names import file_name
from ipfvr.core.errors import UserError

_MEGABYTE = 1 << 20


def take(upload: Path, folder: Path, limit: int) -> Path:
    """Take a file that was dropped.

    Args:
        upload: where the server has put it.
        folder: the app's own, where it goes; it is made.
        limit: MB above which it is refused.

    Returns:
        Where it lies now, under a name of its own.

    Raises:
        UserError: it is too large, empty, or cannot be copied.
    """
    name, size = file_name(upload.name), upload.stat().st_size
    if size > limit * _MEGABYTE:
        raise UserError(
            f"{name} has {size / _MEGABYTE:.0f} MB, above the limit of {limit} MB: start the app with a larger "
            "--limit, or cut the film"
        )
    if size == 0:
        raise UserError(f"{name} is empty")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{Path(name).stem}_{number}{Path(name).suffix}"
    try:
        os.link(upload, target)
    except OSError:  # another file system, or one without links
        try:
            shutil.copyfile(upload, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise UserError(f"{name} cannot be kept: {error.strerror}; make room and drop it again") from None
    return target
