"""Batches made on the device ahead of the training, by a process of its own; H.264 runs on all processors meanwhile."""

from __future__ import annotations

import queue
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, multiprocessing
from torch.utils.data import DataLoader

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.core.pixels import resize
from ipfvr.data.device.encode import encode_clips
from ipfvr.data.device.soften import soften_all
from ipfvr.data.device.store import Store, read_store
from ipfvr.data.device.warps import blur, displacements, recolour, similarities, warp
from ipfvr.data.faces import FaceData, camera_path, chosen_people, face_ellipse, moved_template
from ipfvr.data.threads import one_thread
from ipfvr.degradation.faults import draw_degradation

_AHEAD = 6  # batches whose H.264 is under way
_READY = 3  # finished ones that wait for the training
_CHUNK = 8  # clips a processor takes at once
_REFERENCE_BLUR = 1.2  # pixels of a square of 256, as in ipfvr.data.variation
# Somebody's only picture as their own reference: warped and turned more than two pictures of one person differ, or the
# network would learn to copy it.
_OWN_WARP, _OTHER_WARP, _OWN_TURN = 0.8, 0.25, 0.06


@dataclass
class PendingBatch:
    """A batch whose clips are being encoded.

    Attributes:
        batch: all but the low-quality clips, on a processor: ``pixels`` and ``reference`` as uint8.
        encoded: the low-quality clips, chunk by chunk.
    """

    batch: dict[str, Any]
    encoded: list[Future]


class DeviceBatches:
    """Endless batches, as :class:`ipfvr.data.faces.FaceDataset` describes their items.

    ``pixels``, ``low``, ``reference`` and ``weight`` lie on the device; ``landmarks`` is an array, for whoever warps by
    it needs it on a processor. A process of its own makes them: in a thread of the training's each small operation
    would wait for the interpreter that launches the training's. It comes and goes with the iterator.

    Args:
        people: folders, see :func:`ipfvr.data.device.store.read_store`.
        config: ``video``, ``data``, ``degradation``, ``seed``.
        device: the device of the batches.
        start: batches already seen.
    """

    def __init__(self, people: Sequence[Path], config: Config, device: torch.device | str, start: int = 0) -> None:
        self.people, self.config, self.start = list(people), config, start
        self.device = torch.device(device)
        self.ellipse = torch.from_numpy(face_ellipse(config.video.size)).to(self.device)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches.

        Raises:
            UserError: the process that makes them failed; the line has its reason.
        """
        context = multiprocessing.get_context("spawn")
        ready, stop = context.Queue(_READY), context.Event()
        arguments = (self.people, self.config, str(self.device), self.start, ready, stop)
        process = context.Process(target=_serve, args=arguments)
        process.start()
        try:
            while True:
                made = ready.get()
                if isinstance(made, str):
                    raise UserError(f"no batches could be made: {made}")
                yield self.to_device(made)
        finally:
            stop.set()
            while process.is_alive():  # its process ends only once the queue is empty
                with suppress(queue.Empty, OSError):  # it may end while it hands a tensor over
                    ready.get(timeout=0.1)
            process.join()

    def to_device(self, made: dict[str, Any]) -> dict[str, Any]:
        """Move a batch of :meth:`BatchMaker.finish` to the device, in [-1, 1], with its low-quality clips enlarged."""
        size, count = self.config.video.size, made["pixels"].shape[1]
        batch = made | {name: self._float(made[name]) for name in ("pixels", "reference") if name in made}
        low = torch.empty_like(batch["pixels"])
        for numbers, clips in batch.pop("sides"):
            frames = self._float(clips.flatten(0, 1))
            low[numbers.to(self.device)] = resize(frames, size).unflatten(0, (-1, count))
        alone = batch.pop("alone").to(self.device).reshape(-1, 1, 1, 1)
        return batch | {"low": low, "weight": torch.where(alone, self.ellipse, 1.0)}

    def _float(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device, non_blocking=True).float() / 127.5 - 1


class BatchMaker:
    """Draws batches from a :class:`Store`, warps, softens and varies them, and has their clips encoded.

    Every ``clip_every``-th batch is of clips: real ones, and a share ``data.moving_pictures`` of pictures that a moving
    camera sees. Of how many references a batch has, 1 is as likely as all numbers up to ``data.references`` together.

    Args:
        store: pictures and frames.
        config: see :class:`DeviceBatches`.
        pool: encodes.
    """

    def __init__(self, store: Store, config: Config, pool: Executor) -> None:
        self.store, self.config, self.pool = store, config, pool
        self.device = store.frames.device

    @torch.no_grad()
    def begin(self, number: int) -> PendingBatch:
        """Draw batch ``number``, warp and soften it, and have its clips encoded."""
        config, data = self.config, self.config.data
        rng = np.random.default_rng([config.seed, number])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        of_clips = bool(data.clip_every) and number % data.clip_every == 0
        count, frames = (data.clip_batch_size, data.clip_frames) if of_clips else (data.batch_size, 1)
        chosen = self._choose(count, frames, rng)
        sharp, matrices, mirrored = self._sharp(chosen, frames, rng, generator)
        pixels = _to_bytes(sharp)  # frames have 8 bits
        first = chosen[:, 0]
        batch = {
            "pixels": pixels.cpu(),
            "alone": self.store.alone[first],
            "landmarks": np.stack([moved_template(m, config.video.size) for m in matrices.numpy()]),
            "text": [self.store.texts[i] for i in first],
            "identity": [self.store.people[i] for i in first],
        }
        if data.references:
            shown = 1 if rng.random() < 0.5 else int(rng.integers(1, data.references + 1))
            references = self._references(chosen, shown, mirrored, rng, generator)
            batch["reference"] = _to_bytes(references).cpu()
        levels = (data.levels[rng.integers(len(data.levels))] for _ in range(count))
        parameters, chroma = zip(*(draw_degradation(level, config, rng) for level in levels), strict=True)
        arrays = soften_all(pixels.float() / 127.5 - 1, parameters, chroma)
        starts = range(0, count, _CHUNK)
        jobs = [self.pool.submit(encode_clips, arrays[i : i + _CHUNK], parameters[i : i + _CHUNK]) for i in starts]
        return PendingBatch(batch, jobs)

    def finish(self, pending: PendingBatch) -> dict[str, Any]:
        """Wait for the encoded clips, and stack those of one size: ``sides`` is a list of (numbers, clips)."""
        clips = [clip for job in pending.encoded for clip in job.result()]
        numbers: dict[int, list[int]] = {}
        for number, clip in enumerate(clips):
            numbers.setdefault(clip.shape[1], []).append(number)
        stacks = [
            (torch.tensor(some), torch.from_numpy(np.stack([clips[n] for n in some])).permute(0, 1, 4, 2, 3))
            for some in numbers.values()
        ]
        return pending.batch | {"sides": [(some, stack.contiguous()) for some, stack in stacks]}

    def _choose(self, count: int, frames: int, rng: np.random.Generator) -> np.ndarray:
        """Numbers of frames in the store, (count, frames); a picture stands in all places of its row."""
        people, rows = list(self.store.scenes.values()), []
        for _ in range(count):
            if frames > 1 and people and rng.random() >= self.config.data.moving_pictures:
                of_one = people[rng.integers(len(people))]
                scene = of_one[rng.integers(len(of_one))]
                rows.append(scene.start + rng.integers(scene.count - frames + 1) + np.arange(frames))
            else:
                rows.append(np.full(frames, rng.choice(self.store.truths)))
        return np.stack(rows)

    def _sharp(
        self, chosen: np.ndarray, frames: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (B, F, 3, S, S) float, the (B, 2, 3) matrices of their mean place, and which are mirrored."""
        data, size, count = self.config.data, self.config.video.size, len(chosen)
        matrices, mirrored = similarities(count, size, data.zoom, data.flip, generator)
        each, moved = matrices[:, None].repeat(1, frames, 1, 1), None
        if frames > 1:
            moving = torch.from_numpy(chosen[:, 0] == chosen[:, -1])
            for row in torch.nonzero(moving).flatten().tolist():
                each[row] = torch.from_numpy(np.stack(camera_path(matrices[row].numpy(), size, frames, rng)))
            moved = self._face_motion(moving.to(self.device), frames)
        pictures = self._pixels(torch.from_numpy(chosen.reshape(-1)))
        warped = warp(pictures, each.flatten(0, 1), moved)
        return warped.unflatten(0, (count, frames)), matrices, mirrored

    def _face_motion(self, moving: Tensor, frames: int) -> Tensor:
        """The displacements of :func:`ipfvr.data.variation.move_face`, (B * F, 2, S, S), 0 where not ``moving``."""
        count, size, device = len(moving), self.config.video.size, self.device
        spread = self.config.data.face_motion * moving
        time = torch.linspace(0, 1, frames, device=device)
        total = torch.zeros(count, frames, 2, size, size, device=device)
        for _ in range(2):
            turns = (0.3 + 1.2 * torch.rand(count, 1, device=device)) * frames / 16
            swing = torch.sin(2 * torch.pi * (turns * time + torch.rand(count, 1, device=device)))
            total += swing[..., None, None, None] * displacements(count, size, spread, device)[:, None]
        return total.flatten(0, 1)

    def _references(
        self, chosen: np.ndarray, shown: int, mirrored: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> Tensor:
        """References (B, R, 3, S, S) as of another moment, mirrored as the frames are."""
        data, size = self.config.data, self.config.video.size
        middle = chosen[:, chosen.shape[1] // 2]
        found = [self.store.references(int(n), shown, data.own_reference, rng) for n in middle]
        numbers = torch.tensor([n for row, _ in found for n in row])
        own = torch.tensor([itself for _, itself in found]).repeat_interleave(shown)
        near, _ = similarities(len(numbers), size, data.reference_zoom, False, generator)
        far, _ = similarities(len(numbers), size, _OWN_TURN, False, generator)
        matrices = torch.where(own[:, None, None], far, near)
        turned = mirrored.repeat_interleave(shown)
        matrices[:, 0] = torch.where(turned[:, None], -matrices[:, 0], matrices[:, 0])
        matrices[:, 0, 2] += turned * (size - 1)
        spread = data.reference_variation * torch.where(own, _OWN_WARP, _OTHER_WARP).to(self.device)
        pictures = warp(self._pixels(numbers), matrices, displacements(len(numbers), size, spread, self.device))
        soft = blur(pictures, _REFERENCE_BLUR * size / 256 * torch.rand(len(numbers), device=self.device))
        return recolour(soft.clamp(-1, 1)).unflatten(0, (-1, shown))

    def _pixels(self, numbers: Tensor) -> Tensor:
        return self.store.frames[numbers.to(self.device)].float() / 127.5 - 1


class DeviceFaceData(FaceData):
    """:class:`FaceData` whose training batches are made on the device; validation is its own.

    It is for one device: the store is as large as the data (9,000 squares of 256 pixels are 1.8 GB).
    """

    def setup(self, stage: str | None = None) -> None:
        """Make the batches of the validation once, so that no process is forked while a GPU is in use.

        The pictures that are learnt from are read by the process that makes the batches.
        """
        self.setup_validation()
        alone = replace(self.config, data=replace(self.config.data, workers=0))
        self.seen = list(FaceData.loader(alone, self.validation, self.validation_draws()))

    def train_dataloader(self) -> DataLoader | DeviceBatches:
        """Endless batches."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return DeviceBatches(chosen_people(self.config.data), self.config, device, self.start)

    def val_dataloader(self) -> DataLoader | list:
        """Return the people held out, as :class:`FaceData` has them."""
        return DataLoader(self.seen, batch_size=None) if self.seen else []


def _serve(people: list[Path], config: Config, device: str, start: int, ready: Any, stop: Any) -> None:
    """Make batches until ``stop`` is set or the training is gone; a fault is sent as one line."""
    training = multiprocessing.parent_process()

    def is_running() -> bool:
        return not stop.is_set() and training.is_alive()

    try:
        torch.set_num_threads(1)
        context = multiprocessing.get_context("spawn")  # a fork would copy the threads that have read the pictures
        with ProcessPoolExecutor(max(1, config.data.workers), context, one_thread) as pool:
            maker = BatchMaker(read_store(people, config, device), config, pool)
            pending: deque[PendingBatch] = deque()
            number = start
            while is_running():
                while len(pending) < _AHEAD:
                    pending.append(maker.begin(number))
                    number += 1
                made, sent = maker.finish(pending.popleft()), False
                while not sent and is_running():
                    with suppress(queue.Full):
                        ready.put(made, timeout=0.5)
                        sent = True
    except Exception as error:
        ready.put(str(error) or traceback.format_exc().splitlines()[-1])


def _to_bytes(pixels: Tensor) -> Tensor:
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
