"""A clip on disk: a video file or a folder of frames, read frame by frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.video.reader import VideoReader, read_image

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif"}


@dataclass
class Clip:
    """A video or a folder of frames, read frame by frame; each iteration starts at the beginning.

    Attributes:
        name: file or folder name without suffix: what clips are paired by.
        path: the file or folder.
    """

    name: str
    path: Path

    @cached_property
    def pictures(self) -> list[Path] | None:
        """The frames' files in natural order (2 before 10), or None for a video."""
        if self.path.is_dir():
            return pictures_in(self.path)
        return [self.path] if self.path.suffix.lower() in PICTURES else None

    @cached_property
    def _reader(self) -> VideoReader:
        return VideoReader(self.path)

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.pictures) if self.pictures is not None else self._reader.info.frames

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first frame."""
        if self.pictures is None:
            return self._reader.info.width, self._reader.info.height
        height, width = read_image(self.pictures[0]).shape[:2]
        return width, height

    def __iter__(self) -> Iterator[np.ndarray]:
        """Return the frames, uint8 RGB (H, W, 3).

        Raises:
            UserError: a frame that cannot be read, or of another size than the first.
        """
        if self.pictures is None:
            for frame in self._reader:
                yield frame.image
            return
        width, height = self.size
        for path in self.pictures:
            image = read_image(path)
            if image.shape[:2] != (height, width):
                raise UserError(
                    f"{path} is {image.shape[1]} x {image.shape[0]}, the folder's first frame {width} x {height}; "
                    "frames of one clip must have one size"
                )
            yield image


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that orders numbers in names by value."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name)]


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures that lie directly in a folder, in natural order."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    return sorted((p for p in found if p.is_file()), key=natural_key)
