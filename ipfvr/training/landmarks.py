"""Training of the landmark network on degraded faces and on patches that show no face.

Landmarks of the data's ``manifest.json`` are the truth. YuNet labels the other pictures and the clips: the median over
sizes and mirror images, since a single answer is off by several percent of the eyes' distance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config, FacesConfig
from ipfvr.data.layout import read_identities
from ipfvr.faces.align import apply, crop, similarity_transform
from ipfvr.faces.detect import Detector, box_overlap, make_detector, shrink
from ipfvr.faces.landmarks import PATCH, SPREAD, UNIT, LandmarkNet, patch_template
from ipfvr.models.backbone import save_module
from ipfvr.training.common import Trained
from ipfvr.video.reader import VideoReader, read_image

STORE = 160  # side of the squares that faces are kept in, pixels; a patch is a window of them
_STORE_SCALE = 1.3  # pixels of the store for one pixel of an aligned patch
# Medians over 195 aligned pictures of CelebA, frontalface_alt2: the box's side is 4.12 spreads, and the points'
# mean lies 0.376 spreads below its centre.
_CASCADE_SIDE = 4.12
_CASCADE_LOWER = 0.376 / 4.12
_FRAME_STEP = 20  # every n-th frame of a clip is taken
_NEGATIVES = 0.35  # share of a batch that is no face, or a face far off
_MIRROR = [1, 0, 2, 4, 3]  # the points' order in a mirror image
# Pictures of no faces that scikit-image carries; its others are left to the tests.
_NO_FACES = ("brick", "clock", "coins", "grass", "gravel", "hubble_deep_field", "page", "rocket", "text")


@dataclass
class LandmarkSet:
    """The data of the training.

    Attributes:
        faces: (N, 160, 160) uint8 grey squares with the face upright in the middle.
        landmarks: (N, 5, 2) float64, pixels of the squares.
        others: (M, 64, 64) uint8 grey patches in which OpenCV's cascade saw a face and there is none.
    """

    faces: np.ndarray
    landmarks: np.ndarray
    others: np.ndarray


def landmark_data(root: str | Path, heldout: str | Path) -> LandmarkSet:
    """Read the faces of every person who is not held out.

    Args:
        root: a folder with ``manifest.json`` (entries with ``file``, ``identity`` and, where known,
            ``landmarks256``), ``images/<set>/<identity>/`` and ``clips/<identity>/``.
        heldout: a YAML file with the list ``identities``.

    Raises:
        UserError: a file is missing, or YuNet's is.
    """
    root, out = Path(root), read_identities(heldout, "data.heldout")
    known = read_landmarks(root)
    detector = make_detector(FacesConfig(detector="yunet"))
    squares, points, others = [], [], []
    for file in sorted(root.glob("images/*/*/*")):
        if file.parent.name in out or file.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            continue
        image = read_image(file)
        landmarks = known.get(file.relative_to(root).as_posix())
        if landmarks is None:
            landmarks = label(image, detector)
        if landmarks is not None:
            _keep(image, landmarks, squares, points)
    for file in sorted(root.glob("clips/*/*.mp4")):
        if file.parent.name in out:
            continue
        for frame in VideoReader(file):
            if frame.index % _FRAME_STEP == 0:
                image, _ = shrink(frame.image, 720)
                landmarks = label(image, detector)
                if landmarks is not None:
                    _keep(image, landmarks, squares, points)
                others += false_alarms(image, [face.box for face in detector.detect(image)])
    for name in _NO_FACES:
        image = getattr(skimage.data, name)()
        others += false_alarms(image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), [])
    if not squares or not others:
        raise UserError(f"no faces to learn from in {root}/images and {root}/clips (data.root)")
    return LandmarkSet(np.stack(squares), np.stack(points), np.stack(others))


def read_landmarks(root: Path) -> dict[str, np.ndarray]:
    """Read the landmarks (5, 2) of the manifest's 256 pixel pictures, by file."""
    manifest = root / "manifest.json"
    if not manifest.is_file():
        raise UserError(f"data.root '{root}' has no manifest.json")
    entries = json.loads(manifest.read_text())["entries"]
    return {e["file"]: np.array(e["landmarks256"]) for e in entries if "landmarks256" in e}


def label(image: np.ndarray, detector: Detector) -> np.ndarray | None:
    """Return landmarks (5, 2) of the only face, the median over two sizes and mirror images, or None."""
    height, width = image.shape[:2]
    answers = []
    for side in (max(224, round(0.6 * max(height, width))), max(height, width)):
        ratio = side / max(height, width)
        size = round(width * ratio), round(height * ratio)
        scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
        for mirrored in (False, True):
            faces = detector.detect(np.ascontiguousarray(scaled[:, ::-1]) if mirrored else scaled)
            if len(faces) != 1:
                continue
            points = faces[0].landmarks.astype(np.float64)
            if mirrored:
                points = points[_MIRROR] * (-1, 1) + (size[0] - 1, 0)
            answers.append((points + 0.5) / ratio - 0.5)
    return np.median(answers, axis=0) if len(answers) >= 3 else None


def false_alarms(image: np.ndarray, faces: list[np.ndarray]) -> list[np.ndarray]:
    """Return patches in which a lenient cascade detects a face that none of the boxes ``faces`` overlaps."""
    grey = cv2.cvtColor(shrink(image, 480)[0], cv2.COLOR_RGB2GRAY)
    ratio = image.shape[1] / grey.shape[1]
    found = open_cascade().detectMultiScale(grey, 1.2, 0, minSize=(24, 24))
    boxes = [np.asarray(box, dtype=np.float64) * ratio for box in found]
    return [
        cv2.cvtColor(crop(image, box_matrix(box), PATCH), cv2.COLOR_RGB2GRAY)
        for box in boxes
        if all(box_overlap(box, face) < 0.1 for face in faces)
    ][:40]


def open_cascade() -> cv2.CascadeClassifier:
    """Open the frontal face cascade of OpenCV 4.

    Raises:
        UserError: an OpenCV without cascades (5 and later).
    """
    if not hasattr(cv2, "CascadeClassifier"):
        raise UserError("this OpenCV has no cascades: pip install 'opencv-python-headless<5'")
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_alt2.xml"))


def box_matrix(box: np.ndarray) -> np.ndarray:
    """Return the transform (2, 3) from the frame to the upright patch of a cascade's box (x, y, w, h)."""
    x, y, w, h = np.asarray(box, dtype=np.float64)
    scale = SPREAD * _CASCADE_SIDE / w
    centre = np.array([x + w / 2, y + h / 2 + _CASCADE_LOWER * h])
    return np.hstack([np.eye(2) * scale, ((PATCH - 1) / 2 - scale * centre)[:, None]])


def _keep(image: np.ndarray, landmarks: np.ndarray, squares: list[np.ndarray], points: list[np.ndarray]) -> None:
    target = (patch_template() - (PATCH - 1) / 2) * _STORE_SCALE + (STORE - 1) / 2
    matrix = similarity_transform(landmarks, target)
    squares.append(cv2.cvtColor(crop(image, matrix, STORE), cv2.COLOR_RGB2GRAY))
    points.append(apply(matrix, landmarks))


class Patches(IterableDataset):
    """Yields endless batches: ``patches`` (B, 1, 64, 64) float, ``shift`` (B, 5, 2), ``face`` (B,) 1 or 0."""

    def __init__(self, data: LandmarkSet, batch_size: int, seed: int, start: int = 0) -> None:
        self.data, self.batch_size, self.seed, self.start = data, batch_size, seed, start

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        number = self.start
        while True:
            rng = np.random.default_rng([self.seed, number])
            yield to_batch([self.draw(rng) for _ in range(self.batch_size)])
            number += 1

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        """Draw a patch, the points' displacements from the template in the network's unit, and 1.0 for a face."""
        kind = rng.random()
        none = np.zeros((5, 2))
        if kind < _NEGATIVES / 2:
            patch = self.data.others[rng.integers(len(self.data.others))]
            if rng.random() < 0.5:
                patch = patch[:, ::-1]
            turned = crop(patch, _jitter(rng, 0.15, 10, 3, PATCH), PATCH)
            return degrade_patch(turned, rng), none, 0.0
        index = rng.integers(len(self.data.faces))
        if kind < _NEGATIVES:
            return degrade_patch(crop(self.data.faces[index], _far_off(rng), PATCH), rng), none, 0.0
        wide = rng.random() < 0.5
        matrix = _jitter(rng, 0.13, 14, 4.5, STORE) if wide else _jitter(rng, 0.05, 4, 1.5, STORE)
        points = apply(matrix, self.data.landmarks[index])
        patch = crop(self.data.faces[index], matrix, PATCH)
        if rng.random() < 0.5:
            patch, points = patch[:, ::-1], points[_MIRROR] * (-1, 1) + (PATCH - 1, 0)
        return degrade_patch(patch, rng), (points - patch_template()) / UNIT, 1.0


def to_batch(items: list[tuple[np.ndarray, np.ndarray, float]]) -> dict[str, Tensor]:
    """Collate patches, displacements and labels into tensors, see :class:`Patches`."""
    patches, shifts, faces = (np.stack(column) for column in zip(*items, strict=True))
    return {
        "patches": torch.from_numpy(patches)[:, None].float(),
        "shift": torch.from_numpy(shifts).float(),
        "face": torch.from_numpy(faces).float(),
    }


def _jitter(rng: np.random.Generator, scale: float, angle: float, shift: float, side: int) -> np.ndarray:
    """Draw a transform from a square to a patch: log-normal scale, normal turn (degrees) and shift (pixels)."""
    zoom = np.exp(rng.normal(0, scale)) / (_STORE_SCALE if side == STORE else 1)
    turn = np.deg2rad(rng.normal(0, angle))
    return _about_centre(zoom, turn, rng.normal(0, shift, 2), side)


def _far_off(rng: np.random.Generator) -> np.ndarray:
    """Draw a transform that misses the face of a square: beside it, much too near or much too far."""
    zoom, shift = np.exp(rng.normal(0, 0.3)), np.zeros(2)
    if rng.random() < 0.6:
        direction = rng.uniform(0, 2 * np.pi)
        shift = rng.uniform(26, 45) * np.array([np.cos(direction), np.sin(direction)])
    else:
        zoom = rng.uniform(1.9, 3.0) if rng.random() < 0.6 else rng.uniform(0.35, 0.5)
        shift = rng.normal(0, 10, 2)
    return _about_centre(zoom / _STORE_SCALE, np.deg2rad(rng.normal(0, 20)), shift, STORE)


def _about_centre(zoom: float, turn: float, shift: np.ndarray, side: int) -> np.ndarray:
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    offset = (PATCH - 1) / 2 + shift - linear @ np.full(2, (side - 1) / 2)
    return np.hstack([linear, offset[:, None]])


def degrade_patch(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change light, blur, shrink, occlude, add noise and compress, each with its probability: (64, 64) uint8."""
    x = patch.astype(np.float32)
    x = (x - x.mean()) * rng.uniform(0.5, 1.4) + x.mean() + rng.uniform(-30, 30)
    if rng.random() < 0.3:  # light from one side
        slope = rng.normal(0, 0.6, 2)
        ramp = np.linspace(-1, 1, PATCH, dtype=np.float32)
        x = x * (1 + 0.5 * np.tanh(slope[0] * ramp[None, :] + slope[1] * ramp[:, None]))
    if rng.random() < 0.5:
        sigma = rng.uniform(0.4, 2.5)
        x = cv2.GaussianBlur(x, (0, 0), sigma)
    if rng.random() < 0.3:
        small = cv2.resize(x, (int(rng.integers(14, 48)),) * 2, interpolation=cv2.INTER_AREA)
        x = cv2.resize(small, (PATCH, PATCH), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.1:  # a hand, a microphone, a caption
        w, h = rng.integers(8, 28, 2)
        left, top = rng.integers(0, PATCH - w), rng.integers(0, PATCH - h)
        x[top : top + h, left : left + w] = rng.uniform(0, 255)
    if rng.random() < 0.5:
        x = x + rng.normal(0, rng.uniform(1, 18), x.shape).astype(np.float32)
    x = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, code = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 70))])
        x = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
    return x


class LandmarkData(pl.LightningDataModule):
    """The faces of ``data.root``; validation uses the held-out people's pictures with known landmarks."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.start = 0  # batches already seen: set before resuming

    def setup(self, stage: str | None = None) -> None:
        """Read and label the faces, which takes a few minutes."""
        self.faces = landmark_data(self.config.data.root, self.config.data.heldout)
        self.unseen = heldout_data(self.config.data.root, self.config.data.heldout)

    def train_dataloader(self) -> DataLoader:
        """Return a loader of endless batches; batch n depends on the seed and n alone."""
        batches = Patches(self.faces, self.config.data.batch_size, self.config.seed, self.start)
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader | list:
        """Return one batch with every held-out face once, roughly placed and not degraded."""
        rng = np.random.default_rng(self.config.seed)
        items = []
        for square, landmarks in self.unseen:
            matrix = _jitter(rng, 0.1, 10, 4, STORE)
            shift = (apply(matrix, landmarks) - patch_template()) / UNIT
            items.append((crop(square, matrix, PATCH), shift, 1.0))
        return DataLoader([to_batch(items)], batch_size=None) if items else []


def heldout_data(root: str | Path, heldout: str | Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return squares and landmarks of the held-out people whose landmarks are in the manifest."""
    root, out = Path(root), read_identities(heldout, "data.heldout")
    squares: list[np.ndarray] = []
    points: list[np.ndarray] = []
    for file, landmarks in read_landmarks(root).items():
        if Path(file).parent.name in out:
            _keep(read_image(root / file), landmarks, squares, points)
    return list(zip(squares, points, strict=True))


class LandmarkTraining(Trained):
    """Minimises smooth L1 on the points of faces plus cross-entropy on whether there is a face."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.network = LandmarkNet()
        self.average()

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        """Compute the loss of one batch of :class:`Patches`."""
        shift, logit = self.network(batch["patches"])
        face = batch["face"]
        distance = functional.smooth_l1_loss(shift, batch["shift"], beta=0.05, reduction="none").mean(dim=(1, 2))
        points = (distance * face).sum() / face.sum().clamp(min=1)
        verdict = functional.binary_cross_entropy_with_logits(logit, face)
        self.log_dict({"points": points, "verdict": verdict}, prog_bar=True)
        return points + 0.1 * verdict

    def validation_step(self, batch: dict[str, Tensor], number: int) -> None:
        """Log the mean distance of the points, as a share of the distance between the eyes."""
        shift, _ = self.ema(batch["patches"])
        eyes = (batch["shift"] + torch.from_numpy(patch_template()).to(batch["shift"]) / UNIT)[:, :2]
        apart = (eyes[:, 0] - eyes[:, 1]).norm(dim=-1)
        error = ((shift - batch["shift"]).norm(dim=-1).mean(dim=1) / apart).mean()
        self.log("val/error", error, prog_bar=True, batch_size=len(shift), sync_dist=True)

    def export(self, folder: Path) -> list[Path]:
        """Write ``landmarks.safetensors`` in half precision."""
        file = folder / "landmarks.safetensors"
        state = {name: value for name, value in self.ema.state_dict().items() if value.is_floating_point()}
        save_module(state, file, self.metadata())
        return [file]


def make_landmark_training(config: Config) -> tuple[LandmarkTraining, LandmarkData]:
    """Make the training of ``train.module=landmarks`` and its data."""
    return LandmarkTraining(config), LandmarkData(config)
