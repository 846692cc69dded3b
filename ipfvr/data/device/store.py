"""All pictures and frames of a training as one tensor, and the person in each of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ipfvr.conditioning.attributes import compose_sentence, read_attributes
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.data.layout import CLIPS, PICTURES, list_files
from ipfvr.video.reader import read_frames, read_image

_READERS = 16  # pictures decoded at once


@dataclass
class Scene:
    """Frames of one clip in the store: numbers ``start`` to ``start + count - 1``."""

    start: int
    count: int


@dataclass
class Store:
    """Pictures and frames.

    Attributes:
        frames: (N, 3, S, S) uint8, on the device.
        people: N names.
        texts: N captions.
        truths: numbers of the pictures whose detail is a truth to learn from (``data.min_side``).
        alone: (N,) bool: of these people the face alone counts (``data.face_only``).
        pictures: numbers of each person's pictures.
        scenes: each person's clips.
    """

    frames: Tensor
    people: list[str]
    texts: list[str]
    truths: np.ndarray
    alone: Tensor
    pictures: dict[str, list[int]] = field(default_factory=dict)
    scenes: dict[str, list[Scene]] = field(default_factory=dict)

    def references(self, number: int, count: int, own: float, rng: np.random.Generator) -> tuple[list[int], bool]:
        """Numbers of ``count`` references for a picture or a frame, and whether they are the picture itself.

        They are other pictures of the person; of somebody without, frames of a clip far from this one; of somebody with
        one picture, that picture. A share ``own`` of the pictures is shown to itself all the same.
        """
        name = self.people[number]
        others = [n for n in self.pictures.get(name, []) if n != number]
        if others and not (number in self.pictures[name] and rng.random() < own):
            return rng.choice(others, count, replace=len(others) < count).tolist(), False
        for scene in self.scenes.get(name, []):
            if scene.start <= number < scene.start + scene.count:
                distance = np.abs(np.arange(scene.count) - (number - scene.start))
                far = np.flatnonzero(distance >= distance.max() / 2)
                return (scene.start + rng.choice(far, count)).tolist(), False
        return [number] * count, True


def read_store(people: list[Path], config: Config, device: torch.device | str) -> Store:
    """Read ``reference/`` pictures and ``train/`` clips of people.

    Args:
        people: folders, see :mod:`ipfvr.data.layout`.
        config: ``video.size``, ``data``.
        device: that keeps the frames.

    Raises:
        UserError: there is no picture.
    """
    size, data = config.video.size, config.data
    files = list_files(people, "reference", PICTURES)
    clips = list_files(people, "train", CLIPS) if data.clip_every else []
    if not files:
        raise UserError(f"no pictures in {data.root}/<identity>/reference")
    attributes = {key: row for path in data.captions for key, row in read_attributes(path).items()}
    with ThreadPoolExecutor(_READERS) as pool:
        read = list(pool.map(lambda file: _square(read_image(file), size), files))
        films = list(pool.map(lambda file: [_square(frame, size)[0] for frame in read_frames(file)], clips))
    names = [file.parent.parent.name for file in files]
    captions = [attributes.get(f"{name}/{file.name}") for name, file in zip(names, files, strict=True)]
    texts = [compose_sentence(row) if row else config.prompt.positive for row in captions]
    frames = [frame for frame, _ in read]
    truths = np.flatnonzero([side >= data.min_side for _, side in read])
    pictures: dict[str, list[int]] = {}
    scenes: dict[str, list[Scene]] = {}
    for number, name in enumerate(names):
        pictures.setdefault(name, []).append(number)
    for file, film in zip(clips, films, strict=True):
        if len(film) < data.clip_frames:
            continue
        name = file.parent.parent.name
        scenes.setdefault(name, []).append(Scene(len(frames), len(film)))
        frames += film
        names += [name] * len(film)
        texts += [config.prompt.positive] * len(film)
    alone = torch.tensor([name.startswith(tuple(data.face_only)) for name in names], device=device)
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous().to(device)
    return Store(stacked, names, texts, truths, alone, pictures, scenes)


def _square(image: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Return a square picture at ``size``, and the side it had."""
    side = image.shape[0]
    if side != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)
    return image, side
