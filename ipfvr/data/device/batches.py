"""Batches made on the device ahead of the training: H.264 runs on all processors meanwhile."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ipfvr.data.device.encode import encode_clips, one_thread
from ipfvr.data.device.soften import soften_all
from ipfvr.data.device.store import Store, read_store
from ipfvr.data.device.warps import blur, displacements, recolour, similarities, warp
from ipfvr.data.faces import FaceData, camera_path, chosen_people, face_ellipse, moved_template
from ipfvr.data.faults import FAULTS, draw_fault
from ipfvr.degradation import Parameters, sample_parameters
from ipfvr.options import Config
from ipfvr.pixels import resize

_AHEAD = 6  # batches whose H.264 is under way
_READY = 3  # finished ones that wait for the training
_CHUNK = 8  # clips a processor takes at once
_REFERENCE_BLUR = 1.2  # pixels of a square of 256, as in ipfvr.data.variation
# Somebody's only picture as their own reference: warped and turned more than two pictures of one person differ, or the
# network would learn to copy it.
_OWN_WARP, _OTHER_WARP, _OWN_TURN = 0.8, 0.25, 0.06


@dataclass
class _Begun:
    """A batch whose clips are being encoded."""

    batch: dict[str, Any]
    encoded: list[Future]


class DeviceBatches:
    """Endless batches of a :class:`Store`, as :class:`ipfvr.data.faces.FaceDataset` describes their items.

    ``pixels``, ``low``, ``reference`` and ``weight`` lie on the device; ``landmarks`` is an array, for whoever warps by
    it needs it on a processor. Every ``clip_every``-th batch is of clips: real ones, and a share
    ``data.moving_pictures`` of pictures that a moving camera sees. Of how many references a batch has, 1 is as likely
    as all other numbers up to ``data.references`` together.

    Args:
        store: pictures and frames.
        config: ``video``, ``data``, ``degradation``, ``seed``.
        start: batches already seen.
    """

    def __init__(self, store: Store, config: Config, start: int = 0) -> None:
        self.store, self.config, self.start = store, config, start
        self.device = store.frames.device
        self.ellipse = torch.from_numpy(face_ellipse(config.video.size)).to(self.device)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Start the processes and the thread that makes batches; they end with the iterator."""
        ready: queue.Queue = queue.Queue(_READY)
        stop = threading.Event()
        workers = max(1, self.config.data.workers)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=one_thread) as pool:
            thread = threading.Thread(target=self._produce, args=(pool, ready, stop), daemon=True)
            thread.start()
            try:
                while True:
                    made, event = ready.get()
                    if isinstance(made, BaseException):
                        raise made
                    if event is not None:
                        event.wait()
                        stream = torch.cuda.current_stream()
                        for value in made.values():
                            if isinstance(value, Tensor):
                                value.record_stream(stream)
                    yield made
            finally:
                stop.set()
                while thread.is_alive():
                    while not ready.empty():
                        ready.get_nowait()
                    thread.join(0.1)

    def _produce(self, pool: ProcessPoolExecutor, ready: queue.Queue, stop: threading.Event) -> None:
        cuda = self.device.type == "cuda"
        try:
            # A stream of its own: copies to the processor then wait for these batches, not for the training.
            with torch.cuda.stream(torch.cuda.Stream() if cuda else None), torch.no_grad():
                begun: deque[_Begun] = deque()
                number = self.start
                while not stop.is_set():
                    while len(begun) < _AHEAD:
                        begun.append(self.begin(number, pool))
                        number += 1
                    batch = self.finish(begun.popleft())
                    ready.put((batch, torch.cuda.current_stream().record_event() if cuda else None))
        except BaseException as error:  # the training's thread raises it
            ready.put((error, None))

    def begin(self, number: int, pool: ProcessPoolExecutor) -> _Begun:
        """Draw batch ``number``, warp and soften it, and have its clips encoded."""
        config, data = self.config, self.config.data
        rng = np.random.default_rng([config.seed, number])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        of_clips = bool(data.clip_every) and number % data.clip_every == 0
        count, frames = (data.clip_batch_size, data.clip_frames) if of_clips else (data.batch_size, 1)
        chosen = self._choose(count, frames, rng)
        sharp, matrices, mirrored = self._sharp(chosen, frames, rng, generator)
        sharp = ((sharp.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1  # frames have 8 bits
        first = chosen[:, 0]
        batch = {
            "pixels": sharp,
            "weight": torch.where(self.store.alone[first].reshape(-1, 1, 1, 1), self.ellipse, 1.0),
            "landmarks": np.stack([moved_template(m, config.video.size) for m in matrices.numpy()]),
            "text": [self.store.texts[i] for i in first],
            "identity": [self.store.people[i] for i in first],
        }
        if data.references:
            shown = 1 if rng.random() < 0.5 else int(rng.integers(1, data.references + 1))
            batch["reference"] = self._references(chosen, shown, mirrored, rng, generator)
        parameters, chroma = zip(*(self._parameters(rng) for _ in range(count)), strict=True)
        soft = [t.permute(0, 2, 3, 1).contiguous() for t in soften_all(sharp, parameters, chroma)]
        arrays = _to_host(soft)
        jobs = [
            pool.submit(encode_clips, arrays[i : i + _CHUNK], parameters[i : i + _CHUNK])
            for i in range(0, count, _CHUNK)
        ]
        return _Begun(batch, jobs)

    def finish(self, begun: _Begun) -> dict[str, Any]:
        """Wait for the encoded clips and enlarge them."""
        clips = [clip for job in begun.encoded for clip in job.result()]
        size, count = self.config.video.size, clips[0].shape[0]
        low = torch.empty_like(begun.batch["pixels"])
        sides: dict[int, list[int]] = {}
        for number, clip in enumerate(clips):
            sides.setdefault(clip.shape[1], []).append(number)
        for numbers in sides.values():
            stack = torch.from_numpy(np.stack([clips[n] for n in numbers])).to(self.device)
            pixels = stack.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
            low[torch.tensor(numbers, device=self.device)] = resize(pixels, size).unflatten(0, (-1, count))
        return begun.batch | {"low": low}

    def _choose(self, count: int, frames: int, rng: np.random.Generator) -> np.ndarray:
        """Numbers of frames in the store, (count, frames); a picture stands in all places of its row."""
        scenes = [scene for of_one in self.store.scenes.values() for scene in of_one]
        rows = []
        for _ in range(count):
            if frames > 1 and scenes and rng.random() >= self.config.data.moving_pictures:
                people = list(self.store.scenes.values())
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
            moved = self._swings(moving.to(self.device), frames)
        pictures = self._pixels(torch.from_numpy(chosen.reshape(-1)))
        warped = warp(pictures, each.flatten(0, 1), moved)
        return warped.unflatten(0, (count, frames)), matrices, mirrored

    def _swings(self, moving: Tensor, frames: int) -> Tensor:
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

    def _parameters(self, rng: np.random.Generator) -> tuple[Parameters | None, float]:
        config, video = self.config, self.config.video
        level = config.data.levels[rng.integers(len(config.data.levels))]
        if level in FAULTS:
            return draw_fault(level, video.size, rng)
        seed = int(rng.integers(2**31))
        return sample_parameters(level, video.scale, video.size, seed, config.degradation.scale_sigma), 0.0


class DeviceFaceData(FaceData):
    """:class:`FaceData` whose training batches are made on the device; validation is its own.

    It is for one device: the store is as large as the data (9,000 squares of 256 pixels are 1.8 GB).
    """

    def setup(self, stage: str | None = None) -> None:
        """Read the pictures once the device is known."""
        super().setup(stage)
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        self.store = read_store(chosen_people(self.config.data), self.config, device)
        # Made once: processes forked from one that uses a GPU are no safe place to make them again each time.
        alone = replace(self.config, data=replace(self.config.data, workers=0))
        self.seen = list(FaceData.loader(alone, self.validation, self.validation_draws()))

    def train_dataloader(self) -> DataLoader | DeviceBatches:
        """Endless batches."""
        return DeviceBatches(self.store, self.config, self.start)

    def val_dataloader(self) -> DataLoader | list:
        """The people held out, as :class:`FaceData` has them."""
        return DataLoader(self.seen, batch_size=None) if self.seen else []


def _to_host(tensors: list[Tensor]) -> list[np.ndarray]:
    """One copy for all: (F, h, w, 3) uint8 arrays."""
    flat = torch.cat([t.flatten() for t in tensors]).cpu().numpy()
    parts = np.split(flat, np.cumsum([t.numel() for t in tensors])[:-1])
    return [part.reshape(t.shape) for part, t in zip(parts, tensors, strict=True)]
