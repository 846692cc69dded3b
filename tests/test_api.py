"""The public API, as README and the package's docstring show it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ipfvr
from ipfvr.data.sample import portrait, sample_clip
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import write_picture, write_video

ROOT = Path(__file__).parents[1]


def test_every_name_is_there_and_importing_the_package_costs_nothing() -> None:
    assert all(callable(getattr(ipfvr, name)) for name in ipfvr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ipfvr.nothing
    code = "import ipfvr, sys; print(len({'torch', 'cv2', 'omegaconf', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "0"


@pytest.mark.parametrize("source", [ROOT / "README.md", ROOT / "ipfvr" / "__init__.py"], ids=lambda p: p.name)
def test_the_lines_that_are_shown_restore_a_video(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("old.mp4"), sample_clip(2, 96), 24, 10)
    write_picture(Path("photo.png"), portrait())
    text = source.read_text()
    lines = re.findall(r"^ *((?:from \w+ import|restore_file\().*)$", text, re.MULTILINE)
    start = next(number for number, line in enumerate(lines) if line == "from pathlib import Path")
    code = "\n".join(lines[start : start + 3]).replace("photo.jpg", "photo.png")
    exec(code.replace("load_config()", "load_config(None, ['faces.min_confidence=0.3'])"), {})
    assert VideoReader(Path("restored.mp4")).info.frames == 2
