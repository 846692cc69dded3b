"""Pictures of known people for a recogniser: aligned, labelled, and degraded as restored faces are."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.core.pixels import to_tensor
from ipfvr.data.faces import chosen_people
from ipfvr.data.layout import PICTURES, list_files
from ipfvr.data.threads import one_thread
from ipfvr.faces.align import ARCFACE_SIZE, arcface_template, crop, face_template, similarity_transform
from ipfvr.video.reader import read_image

_MARGIN = 16  # pixels kept around a recognition crop, for random shifts and turns
_STORE = ARCFACE_SIZE + 2 * _MARGIN
_READERS = 16  # pictures read at once


@dataclass
class LabelledFaces:
    """Pictures of people.

    Attributes:
        squares: (N, 144, 144, 3) uint8 RGB: recognition crops with a margin of 16 pixels.
        people: N names.
    """

    squares: np.ndarray
    people: list[str]


def read_labelled(people: list[Path]) -> LabelledFaces:
    """Return the ``reference/`` pictures of people, which are aligned to the template of ``ipfvr.faces.align``.

    Raises:
        UserError: none of them has a picture.
    """
    files = list_files(people, "reference", PICTURES)
    if not files:
        raise UserError("no pictures in <data.root>/<identity>/reference for a recogniser to learn from")
    with ThreadPoolExecutor(_READERS) as pool:
        squares = list(pool.map(_stored, files))
    return LabelledFaces(np.stack(squares), [file.parent.parent.name for file in files])


def _stored(file: Path) -> np.ndarray:
    image = read_image(file)
    return crop(image, similarity_transform(face_template(image.shape[0]), arcface_template() + _MARGIN), _STORE)


def degrade_picture(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Degrade a stored picture for the training of a recogniser: (112, 112, 3) uint8 RGB.

    The picture is always shifted and relit, and at random it is mirrored, blurred, reduced and enlarged, made noisy,
    compressed or partly covered: a restored face shows the same kinds of damage.
    """
    x = _misplace(square, rng).astype(np.float32)
    if rng.random() < 0.5:
        x = np.ascontiguousarray(x[:, ::-1])
    x = _recolour(x, rng)
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.8))
    if rng.random() < 0.4:
        x = _enlarged(x, int(rng.integers(28, 80)))
    if rng.random() < 0.3:
        x = x + rng.normal(0, rng.uniform(1, 9), x.shape).astype(np.float32)
    x = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, code = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 75))])
        x = cv2.imdecode(code, cv2.IMREAD_COLOR)
    if rng.random() < 0.25:
        w, h = rng.integers(12, 44, 2)
        left, top = rng.integers(0, ARCFACE_SIZE - w), rng.integers(0, ARCFACE_SIZE - h)
        x[top : top + h, left : left + w] = rng.integers(0, 256, 3)
    return x


def _misplace(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    zoom, turn = np.exp(rng.normal(0, 0.05)), np.deg2rad(rng.normal(0, 4))
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    offset = (ARCFACE_SIZE - 1) / 2 + rng.normal(0, 2, 2) - linear @ np.full(2, (_STORE - 1) / 2)
    matrix = np.hstack([linear, offset[:, None]])
    side = (ARCFACE_SIZE, ARCFACE_SIZE)
    return cv2.warpAffine(square, matrix, side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _recolour(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    colour = 0.0 if rng.random() < 0.15 else rng.uniform(0.5, 1.4)
    x = grey[..., None] + (x - grey[..., None]) * np.float32(colour)
    mean = grey.mean()
    gain = rng.uniform(0.65, 1.35) * rng.uniform(0.92, 1.08, 3)
    return (x - mean) * gain.astype(np.float32) + np.float32(mean + rng.uniform(-30, 30))


def _enlarged(x: np.ndarray, side: int) -> np.ndarray:
    small = cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (ARCFACE_SIZE, ARCFACE_SIZE), interpolation=cv2.INTER_CUBIC)


class Batches(IterableDataset):
    """Endless batches: ``pixels`` (B, 3, 112, 112) in [-1, 1] and ``person`` (B,), numbers of the sorted names.

    A person is drawn by the square root of the number of pictures. Batch n depends on the seed and n alone, with
    however many workers.
    """

    def __init__(self, faces: LabelledFaces, batch_size: int, seed: int, start: int = 0) -> None:
        self.faces, self.batch_size, self.seed, self.start = faces, batch_size, seed, start
        _, self.person, count = np.unique(faces.people, return_inverse=True, return_counts=True)
        self.chance = 1 / np.sqrt(count[self.person])
        self.chance /= self.chance.sum()

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        number, stride = (self.start, 1) if worker is None else (self.start + worker.id, worker.num_workers)
        while True:
            rng = np.random.default_rng([self.seed, number])
            chosen = rng.choice(len(self.person), self.batch_size, p=self.chance)
            pixels = np.stack([degrade_picture(self.faces.squares[i], rng) for i in chosen])
            yield {"pixels": to_tensor(pixels), "person": torch.from_numpy(self.person[chosen])}
            number += stride


class RecognitionData(pl.LightningDataModule):
    """The pictures of ``data.root``; validation is on the people held out, none of their pictures degraded.

    People of ``data.exclude`` are in neither: their pictures may be of somebody else.

    Raises:
        UserError: a root without people, a list that is not there.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.start = 0  # batches already seen: set before resuming
        data = config.data
        self.people = [p for p in chosen_people(data) if list_files([p], "reference", PICTURES)]
        self.held = chosen_people(data, held=True) if data.heldout else []

    def setup(self, stage: str | None = None) -> None:
        """Read the pictures: seconds."""
        self.faces = read_labelled(self.people)
        self.unseen = read_labelled(self.held) if self.held else None

    def train_dataloader(self) -> DataLoader:
        """Endless batches."""
        settings = self.config.data
        batches = Batches(self.faces, settings.batch_size, self.config.seed, self.start)
        return DataLoader(batches, batch_size=None, num_workers=settings.workers, worker_init_fn=one_thread)

    def val_dataloader(self) -> DataLoader | list:
        """Return every picture of the held-out people in one batch, because pairs are formed over all of them.

        Nothing where there are no two of them, or no two pictures of one.
        """
        if self.unseen is None or not 1 < len(set(self.unseen.people)) < len(self.unseen.people):
            return []
        inner = self.unseen.squares[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        return DataLoader([{"pixels": to_tensor(inner), "people": self.unseen.people}], batch_size=None)
