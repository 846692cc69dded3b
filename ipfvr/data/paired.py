"""Clips to test on: sharp pieces of a person's test scenes and their low-quality twins (Eq. 13), made on the fly.

:class:`YouRefData` and :class:`FosvData` are the paper's two test sets, :class:`FolderData` any folder laid out alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.data.faces import resize_crops
from ipfvr.data.layout import Folder, piece_name, piece_seed, read_root
from ipfvr.data.scenes import load_scene
from ipfvr.degradation.pipeline import Parameters, degrade, sample_parameters
from ipfvr.faces.detect import Detector, make_detector
from ipfvr.video.reader import VideoReader

REAL = "real"  # the level at which a clip is taken as it is: it has no ground truth


@dataclass(frozen=True)
class Pieces:
    """Aligned pieces of one scene that do not overlap.

    Attributes:
        starts: first frame of each, among the scene's frames with a face.
        frames: (F, size, size, 3) uint8 RGB each.
        fps: of the scene.
        scene_frames: how many frames with a face there are.
    """

    starts: list[int]
    frames: list[np.ndarray]
    fps: float
    scene_frames: int


def cut_pieces(video: Path, detector: Detector, config: Config, count: int) -> Pieces:
    """Cut sharp, square, aligned pieces of ``video.clip_frames`` frames that are spread over a scene.

    Args:
        video: the scene.
        detector: finds the face.
        config: ``video.size`` and ``clip_frames``, ``data.scene_frames``, ``faces``.
        count: pieces; fewer where the scene is too short for so many.

    Raises:
        UserError: a video that cannot be read, has no face, or shows it for less than a clip in a row.
    """
    frames, size = config.video.clip_frames, config.video.size
    scene = load_scene(video, detector, config)
    starts = scene.starts(frames)
    fitting = min(count, max(1, len(scene.runs) // frames))
    chosen = starts[np.unique(np.linspace(0, len(starts) - 1, fitting).round().astype(int))].tolist()
    cut = [resize_crops(scene.frames[start : start + frames], size) for start in chosen]
    return Pieces(chosen, cut, float(VideoReader(video).info.rate), len(scene.frames))


def low_quality(
    sharp: np.ndarray, level: str, scale: int, seed: int, scale_sigma: bool = True
) -> tuple[np.ndarray, Parameters | None]:
    """Degrade a clip by Eq. 13, and return the parameters too; at the level ``real`` the clip itself, and None.

    Args:
        sharp: (F, S, S, 3) uint8 RGB.
        level: ``light``, ``heavy``, ``severe`` or ``real``.
        scale: r.
        seed: of what is drawn.
        scale_sigma: see :func:`ipfvr.degradation.pipeline.sample_parameters`.

    Returns:
        (F, S / r, S / r, 3) uint8 RGB.
    """
    if level == REAL:
        return sharp, None
    parameters = sample_parameters(level, scale, sharp.shape[1], seed, scale_sigma)
    return degrade(sharp, parameters), parameters


@dataclass(frozen=True)
class PairedClip:
    """One clip to restore.

    Attributes:
        name: such as ``id13_c04_0``.
        identity: the person's folder.
        low: (F, h, w, 3) uint8 RGB, what a method is given.
        sharp: (F, size, size, 3) uint8 RGB, the ground truth; None: there is none.
        references: pictures of the person.
        fps: frames a second.
        parameters: of the degradation; None: it is real.
    """

    name: str
    identity: str
    low: np.ndarray
    sharp: np.ndarray | None
    references: tuple[Path, ...]
    fps: float
    parameters: Parameters | None


class FolderData(pl.LightningDataModule):
    """The test scenes of everybody in ROOT/<identity>/{reference,train,test}, one clip a batch.

    A clip's degradation depends on its name alone: it is that of the tables, whatever else is read.

    Args:
        config: ``data.root``, ``data.scene_frames``; ``video`` gives sizes and the frames of a clip.
        level: of the degradation, or ``real``: clips are taken as they are and have no ground truth.
        people: names; none: everybody.
        clips: of each scene, at most.

    Raises:
        UserError: an unknown level, a root that is not there, somebody who is not in it.
    """

    levels: tuple[str, ...] = ("light", "heavy", "severe", REAL)

    def __init__(self, config: Config, level: str = "heavy", people: Sequence[str] = (), clips: int = 1) -> None:
        super().__init__()
        if level not in self.levels:
            raise UserError(f"{type(self).__name__} has no level '{level}': use {', '.join(self.levels)}")
        self.config, self.level, self.clips = config, level, clips
        found = read_root(Path(config.data.root))
        if unknown := set(people) - {folder.name for folder in found}:
            raise UserError(f"no {', '.join(sorted(unknown))} in data.root '{config.data.root}'")
        self.people = [folder for folder in found if not people or folder.name in people]
        self.pieces: list[tuple[Folder, Path, int, Pieces]] = []

    def setup(self, stage: str | None = None) -> None:
        """Find the faces and cut the pieces; the sharp frames are kept in memory."""
        if self.pieces:
            return
        detector = make_detector(self.config.faces)
        for folder in self.people:
            for video in folder.test:
                pieces = cut_pieces(video, detector, self.config, self.clips)
                self.pieces += [(folder, video, index, pieces) for index in range(len(pieces.starts))]

    def test_dataloader(self) -> DataLoader:
        """Return a loader whose items are :class:`PairedClip`."""
        return DataLoader(_Paired(self), batch_size=None, shuffle=False)

    def clip(self, number: int) -> PairedClip:
        """Degrade and return the clip of that number."""
        folder, video, index, pieces = self.pieces[number]
        name, sharp = piece_name(video, index), pieces.frames[index]
        low, parameters = low_quality(
            sharp, self.level, self.config.video.scale, piece_seed(name), self.config.degradation.scale_sigma
        )
        truth = None if self.level == REAL else sharp
        return PairedClip(name, folder.name, low, truth, folder.references, pieces.fps, parameters)


class YouRefData(FolderData):
    """YouRef (Section 4.1): sharp clips with pictures of the same person, degraded ``light`` or ``heavy`` (Eq. 13).

    The authors have not published it; lay your own out the same way, ``python -m ipfvr.prepare`` does it.
    """

    levels = ("light", "heavy")


class FosvData(FolderData):
    """FOS-V (Section 4.1): real recordings, taken as they are, without ground truth."""

    levels = (REAL,)

    def __init__(self, config: Config, people: Sequence[str] = (), clips: int = 1) -> None:
        super().__init__(config, REAL, people, clips)


class _Paired(Dataset):
    def __init__(self, data: FolderData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.pieces)

    def __getitem__(self, number: int) -> PairedClip:
        return self.data.clip(number)
