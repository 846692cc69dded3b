"""Training data of faces: pictures and clips of the layout ROOT/<identity>/{reference,train,test}.

Pictures and clips are square crops, aligned to the five-point template of ``ipfvr.faces.align``. Low-quality
twins are made on the fly (Eq. 13).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from ipfvr.conditioning.attributes import compose_sentence, read_attributes
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.core.pixels import resize, to_tensor
from ipfvr.core.training_options import DataConfig
from ipfvr.data.layout import CLIPS, PICTURES, list_files, list_identities, read_identities
from ipfvr.data.threads import one_thread
from ipfvr.data.variation import move_face, vary
from ipfvr.degradation.faults import degrade_as_drawn, draw_degradation
from ipfvr.faces.align import apply, face_template, scale_of
from ipfvr.video.reader import read_frames, read_image

_VALIDATION_BATCH = 32  # pictures, at most
CAMERA = 0.006  # of camera_path: aligned faces hardly move


@dataclass(frozen=True)
class Draw:
    """One item of a batch: its file, and the seed of everything random about it."""

    index: int
    seed: int


def chosen_people(data: DataConfig, held: bool = False) -> list[Path]:
    """Return the folders of :func:`list_identities` without the people of ``data.exclude``."""
    unsure = read_identities(data.exclude, "data.exclude") if data.exclude else set()
    return [p for p in list_identities(data.root, data.heldout, held) if p.name not in unsure]


def _validating(data: DataConfig) -> list[Path]:
    """People held out who validate; where references are shown, those with a second picture."""
    people = chosen_people(data, held=True)
    if data.validation:
        chosen = read_identities(data.validation, "data.validation")
        people = [p for p in people if p.name in chosen]
    return [p for p in people if not data.references or len(list_files([p], "reference", PICTURES)) > 1]


class FaceDataset(Dataset):
    """Pictures (one frame) or clips of faces with their low-quality twins.

    An item is a dictionary: ``pixels`` and ``low``, both (F, 3, size, size), float32 in [-1, 1]; ``weight`` (1, size,
    size), 0 where the picture is no truth to learn from; ``landmarks`` (5, 2), pixels, where the augmentation has
    moved the template's; ``text``, the caption; ``identity``; with ``data.references`` R > 0, ``reference`` (R, 3,
    size, size), clean pictures of the person.

    References are other pictures of the person than the item's own, and not cut from its own clip, where there are
    such; of a clip of a person without pictures, frames far from the item's; a share ``data.own_reference`` of the
    pictures is shown to itself. They are mirrored if the item is, so
    that a mole stays on its side; else they have a small augmentation of their own.

    A picture that has to give several frames is shown by a moving camera (:func:`camera_path`); ``landmarks`` are
    those of the camera's mean place.

    Args:
        files: pictures or clips.
        config: sizes, augmentation, degradation.
        frames: F.
        augment: False: as stored, the same each time.
        pictures: where references are taken from.
    """

    def __init__(
        self, files: list[Path], config: Config, frames: int, augment: bool, pictures: Sequence[Path] = ()
    ) -> None:
        self.files, self.config, self.frames, self.augment = files, config, frames, augment
        self.pictures: dict[str, list[Path]] = {}
        for file in pictures:
            self.pictures.setdefault(_identity(file), []).append(file)
        self.attributes = {key: row for path in config.data.captions for key, row in read_attributes(path).items()}
        self._cache: dict[Path, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        rng, config = np.random.default_rng(draw.seed), self.config
        file, size = self.files[draw.index], config.video.size
        start = self._start(file, rng)
        frames = self._read(file)[start : start + self.frames]
        matrix = draw_augmentation(frames.shape[1], size, config.data if self.augment else None, rng)
        if _is_picture(file) and self.frames > 1:
            sharp = np.concatenate([warp_frames(frames, m, size) for m in camera_path(matrix, size, self.frames, rng)])
            if self.augment and config.data.face_motion:
                sharp = move_face(sharp, config.data.face_motion, rng)
        else:
            sharp = warp_frames(frames, matrix, size)
        level = str(rng.choice(config.data.levels)) if self.augment else config.degradation.level
        attributes = self.attributes.get(f"{_identity(file)}/{file.name}")
        item = {
            **make_pair(sharp, level, config, rng),
            "landmarks": torch.from_numpy(moved_template(matrix, frames.shape[1])).float(),
            "text": compose_sentence(attributes) if attributes else config.prompt.positive,
            "identity": _identity(file),
            "weight": self._weight(_identity(file)),
        }
        if config.data.references:
            item["reference"] = self._references(file, start, is_mirrored(matrix), rng)
        return item

    def _weight(self, identity: str) -> torch.Tensor:
        """(1, size, size): 1 where the picture is a truth to learn from; of ``data.face_only`` the face alone."""
        size = self.config.video.size
        alone = identity.startswith(tuple(self.config.data.face_only))
        return torch.from_numpy(face_ellipse(size))[None] if alone else torch.ones(1, size, size)

    def _read(self, file: Path) -> np.ndarray:
        if file not in self._cache:
            self._cache[file] = read_image(file)[None] if _is_picture(file) else read_frames(file)
        return self._cache[file]

    def _start(self, file: Path, rng: np.random.Generator) -> int:
        count = len(self._read(file))
        if _is_picture(file):
            return 0
        if count < self.frames:
            raise UserError(f"{file} has {count} frames, data.clip_frames is {self.frames}")
        return int(rng.integers(count - self.frames + 1))

    def _references(self, file: Path, start: int, mirrored: bool, rng: np.random.Generator) -> torch.Tensor:
        data, size = self.config.data, self.config.video.size
        others = [p for p in self.pictures.get(_identity(file), []) if p != file]
        # A picture cut from a clip is called <clip>_f<frame>.
        others = [p for p in others if not p.stem.startswith(f"{file.stem}_f")] or others
        if self.augment and data.own_reference and _is_picture(file) and rng.random() < data.own_reference:
            crops = [self._read(file)] * data.references
        elif others:
            chosen = rng.choice(len(others), data.references, replace=len(others) < data.references)
            crops = [self._read(others[i]) for i in chosen]
        else:
            own = self._read(file)
            distance = np.abs(np.arange(len(own)) - (start + (self.frames - 1) / 2))
            far = np.flatnonzero(distance >= distance.max() / 2)
            crops = [own[i : i + 1] for i in rng.choice(far, data.references)]
        augmentation = replace(data, zoom=data.reference_zoom, flip=False) if self.augment else None
        warped = [
            warp_frames(c, draw_augmentation(c.shape[1], size, augmentation, rng), size)[:, :, :: -1 if mirrored else 1]
            for c in crops
        ]
        pictures = np.concatenate(warped)
        if self.augment and data.reference_variation:
            pictures = vary(np.ascontiguousarray(pictures), data.reference_variation, rng)
        return to_tensor(pictures)


@lru_cache(maxsize=2)
def face_ellipse(size: int) -> np.ndarray:
    """1 inside an ellipse about the template's face, 0 around it: (size, size) float32."""
    x, y = (((np.arange(size) + 0.5) / size - m) / r for m, r in ((0.5, 0.31), (0.55, 0.4)))
    return (x[None] ** 2 + y[:, None] ** 2 < 1).astype(np.float32)


def draw_augmentation(side: int, size: int, data: DataConfig | None, rng: np.random.Generator) -> np.ndarray:
    """A random zoom, turn, shift and flip about the centre: (2, 3), from pixels of a crop to those of the network.

    Args:
        side: of the square crop that is given, pixels.
        size: the side of the output, pixels.
        data: gives ``zoom`` and ``flip``; None: the mere change of size.
        rng: what is random is drawn from it.
    """
    scale, angle, shift, flip = size / side, 0.0, np.zeros(2), False
    if data is not None:
        zoom, angle = rng.uniform(-data.zoom, data.zoom), rng.uniform(-data.zoom, data.zoom)
        scale *= 1 + zoom
        shift = rng.uniform(-data.zoom, data.zoom, 2) * size
        flip = data.flip and rng.random() < 0.5
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    if flip:
        linear = linear @ np.diag([-1.0, 1.0])
    offset = (size - 1) / 2 + shift - linear @ np.full(2, (side - 1) / 2)
    return np.concatenate([linear, offset[:, None]], axis=1)


def camera_path(matrix: np.ndarray, size: int, frames: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the path of a hand-held camera over a picture: the (2, 3) matrix of each frame.

    Zoom, turn and shift each drift and swing about what ``matrix`` says, by a standard deviation of ``CAMERA`` of the
    side over the clip: a codec then predicts frames from each other, as it does in real clips.
    """
    time = np.linspace(-1, 1, frames)
    drift, swing = CAMERA * rng.standard_normal((2, 4, 1))
    phase, turns = rng.uniform(0, 2 * np.pi, (4, 1)), rng.uniform(0.3, 1.5, (4, 1)) * frames / 16
    zoom, angle, x, y = drift * time + swing * np.sin(np.pi * turns * time + phase)
    path, centre = [], (size - 1) / 2
    for f in range(frames):
        turn = (1 + zoom[f]) * np.exp(1j * angle[f])
        linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
        offset = centre - linear @ np.full(2, centre) + size * np.array([x[f], y[f]])
        path.append(np.hstack([linear @ matrix[:, :2], (linear @ matrix[:, 2] + offset)[:, None]]))
    return path


def resize_crops(frames: np.ndarray, size: int) -> np.ndarray:
    """Square crops (F, S, S, 3) uint8 at another size, (F, size, size, 3): as a training sees them unaugmented."""
    return warp_frames(frames, draw_augmentation(frames.shape[1], size, None, np.random.default_rng(0)), size)


def warp_frames(frames: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Frames (F, S, S, 3) uint8 by one (2, 3) matrix: (F, size, size, 3), blurred first where they shrink much."""
    scale = scale_of(matrix)
    blurred = [cv2.GaussianBlur(f, (0, 0), 0.4 / scale) if scale < 0.7 else f for f in frames]
    warped = [
        cv2.warpAffine(f, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT) for f in blurred
    ]
    return np.stack(warped)


def is_mirrored(matrix: np.ndarray) -> bool:
    """Return whether a (2, 3) matrix mirrors left and right."""
    return bool(np.linalg.det(matrix[:, :2]) < 0)


def moved_template(matrix: np.ndarray, side: int) -> np.ndarray:
    """The five points of an aligned crop of ``side`` pixels after a (2, 3) matrix: (5, 2), in the usual order."""
    points = apply(matrix, face_template(side))
    return points[[1, 0, 2, 4, 3]] if is_mirrored(matrix) else points


def make_pair(sharp: np.ndarray, level: str, config: Config, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """``pixels`` and ``low`` of a clip (F, size, size, 3): float32 in [-1, 1], of one size, the latter degraded.

    ``level`` is one of Eq. 13 or a film fault (:mod:`ipfvr.degradation.faults`); they differ in how small they make a
    frame.
    """
    low = degrade_as_drawn(sharp, *draw_degradation(level, config, rng), rng)
    return {"pixels": to_tensor(sharp), "low": resize(to_tensor(low), config.video.size)}


class PictureAndClipSampler(Sampler):
    """Endless batches of draws: every ``clip_every``-th is of clips, the others of pictures.

    A share ``data.moving_pictures`` of the batches of clips is of pictures seen by a moving camera, which have the
    numbers behind the clips'.

    What batch number n holds depends on (seed, n) alone, so that a resumed training goes on with the batches
    that an unbroken one would have had. With several processes each takes its share of every batch.
    """

    def __init__(
        self, pictures: int, clips: int, config: Config, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.pictures, self.clips, self.config = pictures, clips, config
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[list[Draw]]:
        data, number = self.config.data, self.start
        while True:
            rng = np.random.default_rng([self.config.seed, number, self.rank])
            of_clips = self.clips and (not self.pictures or (data.clip_every and number % data.clip_every == 0))
            low, high = (self.pictures, self.pictures + self.clips) if of_clips else (0, self.pictures)
            if of_clips and data.moving_pictures and rng.random() < data.moving_pictures:
                low, high = high, high + self.pictures
            count = data.clip_batch_size if of_clips else data.batch_size
            yield [Draw(int(rng.integers(low, high)), int(rng.integers(2**62))) for _ in range(count)]
            number += 1


class PicturesThenClips(Dataset):
    """Two datasets as one: indices from ``len(pictures)`` on are clips."""

    def __init__(self, pictures: FaceDataset, clips: FaceDataset) -> None:
        self.pictures, self.clips = pictures, clips

    def __len__(self) -> int:
        return len(self.pictures) + len(self.clips)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        offset = draw.index - len(self.pictures)
        return self.pictures[draw] if offset < 0 else self.clips[Draw(offset, draw.seed)]


class FaceData(pl.LightningDataModule):
    """Pictures and clips of a data root, the people held out kept for validation.

    ``reference/`` holds the pictures, ``train/`` the clips. Validation takes pictures of the people held out,
    always the same ones with the same degradations.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.start = 0  # batches already seen: set before resuming

    def setup(self, stage: str | None = None) -> None:
        """List the files.

        Raises:
            UserError: a data root without people, or people without pictures and clips.
        """
        self.setup_training()
        self.setup_validation()

    def setup_training(self) -> None:
        """List the files that are learnt from.

        Raises:
            UserError: as :meth:`setup`.
        """
        data = self.config.data
        people = chosen_people(data)
        pictures = list_files(people, "reference", PICTURES)
        clips = list_files(people, "train", CLIPS) if data.clip_every else []
        if not pictures and not clips:
            raise UserError(f"no pictures in {data.root}/<identity>/reference and no clips in .../train")
        self.clips = len(clips)
        truths = [p for p in pictures if not data.min_side or picture_side(p) >= data.min_side]
        moving = truths if data.moving_pictures else []
        self.train = PicturesThenClips(
            FaceDataset(truths, self.config, 1, True, pictures),
            FaceDataset([*clips, *moving], self.config, data.clip_frames, True, pictures),
        )

    def setup_validation(self) -> None:
        """List the files of the people held out.

        Raises:
            UserError: as :meth:`setup`.
        """
        data = self.config.data
        held = list_files(_validating(data), "reference", PICTURES) if data.heldout else []
        seen = [p for p in held if not data.min_side or picture_side(p) >= data.min_side]
        self.validation = FaceDataset(seen, self.config, 1, False, held)

    def train_dataloader(self) -> DataLoader:
        """Endless batches."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = PictureAndClipSampler(len(self.train.pictures), self.clips, self.config, self.start, rank, world)
        return self.loader(self.config, self.train, sampler)

    def val_dataloader(self) -> DataLoader | list:
        """``train.validation_batches`` batches of the people held out."""
        draws = self.validation_draws()
        return self.loader(self.config, self.validation, draws) if draws else []

    def validation_draws(self) -> list[list[Draw]]:
        """Return the draws of the validation batches; none if nobody is held out."""
        size = min(self.config.data.batch_size, _VALIDATION_BATCH)
        count = self.config.train.validation_batches * size
        if not len(self.validation) or not count:
            return []
        chosen = np.linspace(0, len(self.validation) - 1, count).astype(int)
        draws = [Draw(int(index), int(number)) for number, index in enumerate(chosen)]
        return [draws[i : i + size] for i in range(0, count, size)]

    @staticmethod
    def loader(config: Config, dataset: Dataset, batches: Any) -> DataLoader:
        """Batches of a dataset, by ``data.workers`` processes."""
        workers = config.data.workers
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=one_thread,
        )


def picture_side(file: Path) -> int:
    """Return the shorter side of a picture, pixels; only its header is read."""
    with Image.open(file) as picture:
        return min(picture.size)


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in PICTURES


def _identity(file: Path) -> str:
    return file.parent.parent.name
