"""Clips to score: a video file, a folder of frames, or a folder with several of either."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ipfvr.errors import UserError
from ipfvr.video.reader import VideoReader, read_image

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif"}


@dataclass
class Clip:
    """A video or a folder of frames, read frame by frame; each iteration starts anew.

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
        """How many frames there are."""
        return len(self.pictures) if self.pictures is not None else self._reader.info.frames

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first frame."""
        if self.pictures is None:
            return self._reader.info.width, self._reader.info.height
        height, width = read_image(self.pictures[0]).shape[:2]
        return width, height

    def __iter__(self) -> Iterator[np.ndarray]:
        """The frames, uint8 RGB (H, W, 3).

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
    """Sorts names with numbers by the numbers' values."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name)]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie directly in a folder, in natural order."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    return sorted((p for p in found if p.is_file()), key=natural_key)


def find_clips(path: str | Path) -> list[Clip]:
    """The clips of a file, of a folder of frames, or of a folder of videos and folders of frames.

    Raises:
        UserError: nothing is there to read, frames and videos are mixed, or two clips have one name.
    """
    path = Path(path)
    if path.is_file():
        return [Clip(path.stem, path)]
    if not path.is_dir():
        raise UserError(f"no file or folder {path}")
    entries = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=natural_key)
    videos = [p for p in entries if p.is_file() and p.suffix.lower() in VIDEOS]
    folders = [p for p in entries if p.is_dir() and pictures_in(p)]
    if pictures_in(path):
        if videos or folders:
            other = (videos + folders)[0].name
            raise UserError(f"{path} holds single frames beside {other}; give the frames a folder of their own")
        return [Clip(path.name, path)]
    clips = [Clip(p.stem if p.is_file() else p.name, p) for p in videos + folders]
    if not clips:
        raise UserError(f"{path} holds neither frames (png, jpg) nor videos nor folders of frames")
    names = [clip.name for clip in clips]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path} holds two clips named {twice[0]}; clips are paired by name, rename one")
    return sorted(clips, key=lambda clip: natural_key(Path(clip.name)))


def pair_clips(predictions: list[Clip], targets: list[Clip]) -> list[tuple[Clip, Clip]]:
    """Predictions with their ground truths: one with one whatever the names, several by name.

    Raises:
        UserError: a clip without a partner.
    """
    if len(predictions) == len(targets) == 1:
        return [(predictions[0], targets[0])]
    by_name = {clip.name: clip for clip in targets}
    lonely = [clip.name for clip in predictions if clip.name not in by_name]
    left = sorted(set(by_name) - {clip.name for clip in predictions})
    if lonely or left:
        without = [f"no ground truth for {', '.join(lonely)}"] if lonely else []
        without += [f"no prediction for {', '.join(left)}"] if left else []
        raise UserError(
            f"{len(predictions)} predicted and {len(targets)} ground-truth clips do not pair by name: "
            f"{'; '.join(without)}; rename, add or remove clips"
        )
    return [(clip, by_name[clip.name]) for clip in predictions]


def check_pair(prediction: Clip, target: Clip, resize: bool) -> None:
    """Refuse a pair of unequal length, or of unequal size unless ``resize``.

    Raises:
        UserError: the line names both.
    """
    if prediction.frames != target.frames:
        raise UserError(
            f"{prediction.path} has {prediction.frames} frames, {target.path} has {target.frames}; "
            "cut both to the same frames before scoring"
        )
    if prediction.size != target.size and not resize:
        (w, h), (tw, th) = prediction.size, target.size
        raise UserError(
            f"{prediction.path} is {w} x {h}, {target.path} is {tw} x {th}; add --resize to resize the prediction to "
            "the ground truth's size"
        )


def reference_pictures(paths: list[str], names: list[str]) -> dict[str, list[Path]]:
    """Which reference pictures belong to which clip.

    A picture, several pictures, or a folder of pictures are one person, for all clips. A folder whose pictures or
    sub-folders have the names of several clips gives each clip its own.

    Args:
        paths: what ``--reference`` was given.
        names: names of the clips.

    Raises:
        UserError: nothing is there to read, or some clips have a reference of their own and others have none.
    """
    roots = [Path(path) for path in paths]
    gone = [root for root in roots if not root.exists()]
    if gone:
        raise UserError(f"no reference picture or folder {gone[0]}")
    if len(roots) == 1 and roots[0].is_dir() and len(names) > 1:
        own = {p.stem: [p] for p in pictures_in(roots[0])}
        own |= {p.name: pictures_in(p) for p in roots[0].iterdir() if p.is_dir() and pictures_in(p)}
        matched = [name for name in names if name in own]
        if matched:
            missing = [name for name in names if name not in own]
            if missing:
                raise UserError(f"{roots[0]} has a reference for {matched[0]} but none for {', '.join(missing)}")
            return {name: own[name] for name in names}
    pictures = [p for root in roots for p in (pictures_in(root) if root.is_dir() else [root])]
    if not pictures:
        raise UserError(f"{', '.join(paths)} holds no reference pictures (png, jpg)")
    return dict.fromkeys(names, pictures)
