"""Lists of files, whichever system has written them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipfvr.core.errors import UserError
from ipfvr.film.batch import read_list, sources_of

NAMES = ["one.mp4", "zwei äöü.mp4", "with space.mkv"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("form", ["{}", '"{}"', "  {}  ", "'{}'"])
def test_every_name_is_read(tmp_path: Path, encoding: str, end: str, form: str) -> None:
    lines = [form.format(NAMES[0]), "# a remark", "", *(form.format(name) for name in NAMES[1:])]
    path = tmp_path / "list.txt"
    path.write_bytes(end.join(lines).encode(encoding))
    assert read_list(path) == NAMES
    assert sources_of(path) == [tmp_path / name for name in NAMES]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"caf\xe9.mp4")
    with pytest.raises(UserError, match="UTF-8 or UTF-16"):
        read_list(path)
