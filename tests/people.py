"""People made of textures, and the parts that recognise them at no cost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.faces.align import face_template
from ipfvr.faces.detect import Face
from ipfvr.video.writer import VideoWriter

RED, BLUE = (200, 60, 60), (60, 60, 200)


class StubDetector:
    """One face that fills the picture, where the template has it; none in a dark picture."""

    name = "stub"

    def __init__(self, share: float = 1.0) -> None:
        self.share = share  # of the picture's side that the face square takes, about its middle
        self.weights: dict[str, Path] = {}

    def detect(self, image: np.ndarray) -> list[Face]:
        if image.mean() < 20:
            return []
        height, width = image.shape[:2]
        side = self.share * min(height, width)
        corner = np.array([(width - side) / 2, (height - side) / 2])
        points = (face_template(1) * side + corner).astype(np.float32)
        return [Face(np.array([*corner, side, side], np.float32), 1.0, points)]

    def follow(self, image: np.ndarray, face: Face) -> None:
        """Never certain."""


class ColourRecogniser(nn.Module):
    """Tells people by their mean colour."""

    name, licence, sha256 = "colour", "none", "0" * 64
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def embed(self, images: Tensor) -> Tensor:
        # The colour's difference to grey, so that two colours can be opposite; a little of a picture's own.
        means = images.mean((2, 3))
        return functional.normalize(means - means.mean(1, keepdim=True) + 0.1 * images.std((2, 3)), dim=1)


def texture(frames: int, side: int, colour: tuple[int, int, int], seed: int) -> np.ndarray:
    """A moving pattern in shades of a colour: (frames, side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(frames, 6, 6)) * 8 + 40 * rng.normal(size=(6, 6))
    shades = [cv2.resize(c, (side, side), interpolation=cv2.INTER_CUBIC) for c in coarse]
    return np.clip(np.array(colour) + np.stack(shades)[..., None], 25, 255).astype(np.uint8)


def write_video(path: Path, frames: np.ndarray, crf: int = 10) -> Path:
    """An H.264 file of frames (F, H, W, 3) uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, frames.shape[2], frames.shape[1], 25, crf=crf) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def make_person(
    root: Path, name: str, colour: tuple[int, int, int], train: int, test: int = 1, frames: int = 9
) -> Path:
    """A folder of a person: one reference, so many scenes of 40 x 40."""
    folder = root / name
    (folder / "reference").mkdir(parents=True)
    Image.fromarray(texture(1, 40, colour, 99)[0]).save(folder / "reference" / "a.png")
    for number in range(train + test):
        part = "train" if number < train else "test"
        write_video(folder / part / f"s{number}.mp4", texture(9, 40, colour, number))
    return folder
