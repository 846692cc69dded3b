"""One person's references and scenes, ROOT/<identity>/{reference,train,test}, for the LoRA (Section 3.2).

A scene may be any video with the person in it, or a square crop that is aligned already: a square video in which
the five landmarks lie where the template has them is taken as it is, any other is tracked and cropped. Scenes are
held in memory as 8-bit crops a little larger than the network's frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config
from ipfvr.data.faces import Draw, PictureAndClipSampler, draw_augmentation, make_pair, warp_frames
from ipfvr.data.layout import CLIPS, PICTURES, list_files
from ipfvr.data.variation import vary
from ipfvr.faces.align import apply, crop, crop_matrix, face_template
from ipfvr.faces.detect import Detector
from ipfvr.faces.recognise import Recogniser, embed_faces, reference_face
from ipfvr.faces.track import track_video
from ipfvr.video.reader import VideoReader, read_image

SCENES = 4  # what the paper trains on
MARGIN = 1.25  # crops are larger than the network's frames by this, for the random zoom
ALIGNED_WITHIN = 0.05  # mean distance of landmarks to the template, as a share of the side, in an aligned crop
JUDGED = 8  # frames of a scene that are compared with the references
THUMBNAIL = 24  # pixels of a side, grey: what frames are compared by
TWIN = 4.0  # grey levels (RMS of thumbnails) within which two frames are one: encoded twice 0.5 to 3, two takes 5 to 25
TWINS = 0.1  # share of a test scene's frames with a twin in training that is no accident
MIRRORED = [1, 0, 2, 4, 3]  # the landmarks' order in a mirror


@dataclass(frozen=True)
class Scene:
    """Aligned crops of one video, frames without the face left out.

    Attributes:
        path: the video.
        frames: (F, S, S, 3) uint8 RGB.
        landmarks: (F, 5, 2) float64, pixels of the crops: found once, on these sharp frames.
        runs: (F,) int; frames of one number follow each other in the video.
        aligned: the video was a square aligned crop already.
        sha256: of the file.
    """

    path: Path
    frames: np.ndarray
    landmarks: np.ndarray
    runs: np.ndarray
    aligned: bool
    sha256: str

    def starts(self, count: int) -> np.ndarray:
        """Return the frames at which windows of ``count`` consecutive frames can begin."""
        first = np.arange(max(0, len(self.runs) - count + 1))
        return first[self.runs[first] == self.runs[first + count - 1]]


@dataclass(frozen=True)
class Reference:
    """A picture of the person.

    Attributes:
        path: the picture.
        face: (size, size, 3) uint8 RGB, aligned.
        embedding: (D,) of length 1, by the recogniser that judges likeness.
        sha256: of the file.
    """

    path: Path
    face: np.ndarray
    embedding: Tensor
    sha256: str


@dataclass(frozen=True)
class Person:
    """The data of one person that a LoRA is trained and tested on.

    Attributes:
        identity: the folder's name.
        references: at least one.
        train: scenes to learn from.
        test: scenes kept apart; may be empty.
        likeness: mean cosine of each scene to the references, by the video's name.
        remarks: what a user should know about them, a line each.
    """

    identity: str
    references: list[Reference]
    train: list[Scene]
    test: list[Scene]
    likeness: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def embedding(self, recogniser: Recogniser) -> Tensor:
        """x_ref of Eq. 5: the mean of the references' embeddings, of length 1, (D,).

        They are taken from the aligned faces, which have the pixels that the generated frames have.
        """
        faces = np.stack([r.face for r in self.references])
        points = face_template(faces.shape[1])[None].repeat(len(faces), 0)
        return functional.normalize(embed_faces(faces, points, recogniser).mean(0), dim=0)


def load_person(config: Config, recogniser: Recogniser, detector: Detector) -> Person:
    """Read and check a person's pictures and scenes.

    Args:
        config: ``data.root``, ``data.identity`` and the bounds beside them; ``video`` gives the sizes.
        recogniser: judges whether scenes and references show one person.
        detector: finds the faces.

    Raises:
        UserError: a folder that is not there or empty, a scene without a face or shorter than a clip, scenes of
            another person (unless ``data.force``), a test scene that is also trained on.
    """
    data = config.data
    folder = Path(data.root) / data.identity
    if not data.identity or not folder.is_dir():
        known = sorted(p.name for p in Path(data.root).glob("*") if p.is_dir())
        some = f"people there: {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}" if known else "it is empty"
        raise UserError(f"data.identity '{data.identity}' is not a folder of data.root '{data.root}'; {some}")
    pictures = list_files([folder], "reference", PICTURES)
    videos = {part: list_files([folder], part, CLIPS) for part in ("train", "test")}
    if not pictures or not videos["train"]:
        what, part = ("picture", "reference") if not pictures else ("video", "train")
        raise UserError(f"no {what} in {folder / part}; the layout is ROOT/<identity>/{{reference,train,test}}")
    refuse_same_files(videos["train"], videos["test"])
    references = [load_picture(p, detector, recogniser, config.video.size)[0] for p in pictures]
    scenes = {part: [load_scene(p, detector, config) for p in files] for part, files in videos.items()}
    refuse_same_frames(scenes["train"], scenes["test"])
    likeness, remarks = judge(scenes["train"] + scenes["test"], references, recogniser, config)
    if len(scenes["train"]) < SCENES:
        remarks.insert(0, f"{len(scenes['train'])} training scenes in {folder}: the paper takes {SCENES}")
    return Person(data.identity, references, scenes["train"], scenes["test"], likeness, remarks)


def load_scene(path: Path, detector: Detector, config: Config) -> Scene:
    """Load a scene: its face is tracked and cropped, unless the scene already is an aligned crop.

    Raises:
        UserError: a video that cannot be read, has no face, or shows it for less than a clip in a row.
    """
    reader, limit = VideoReader(path), config.data.scene_frames or None
    track = track_video(islice(reader, limit), detector, config.faces)
    present = np.flatnonzero(track.present)
    if not len(present):
        raise UserError(
            f"no face found in the scene {path} by the {detector.name} detector: take it out, or lower "
            f"faces.min_confidence ({config.faces.min_confidence})"
        )
    landmarks, side = track.landmarks[present], reader.info.width
    distance = np.linalg.norm(landmarks - face_template(side), axis=-1).mean(-1)
    aligned = side == reader.info.height and float(np.median(distance)) < ALIGNED_WITHIN * side
    size = side if aligned else round(MARGIN * config.video.size)
    frames = np.empty((len(present), size, size, 3), np.uint8)
    found, points = 0, landmarks.copy()
    for frame in islice(reader, limit):
        if track.present[frame.index]:
            matrix = track.matrix(frame.index, size)
            frames[found] = frame.image if aligned else crop(frame.image, matrix, size)
            points[found] = landmarks[found] if aligned else apply(matrix, landmarks[found])
            found += 1
    scene = Scene(path, frames, points, track.scenes[present], aligned, sha256(path))
    needed = config.video.clip_frames
    if not len(scene.starts(needed)):
        longest = int(np.unique(scene.runs, return_counts=True)[1].max())
        raise UserError(
            f"the scene {path} shows the face for {longest} frames in a row, a clip has {needed}: take it out, or "
            f"give video.clip_frames={longest}"
        )
    return scene


def load_picture(
    path: Path, detector: Detector, recogniser: Recogniser, size: int, choose: int = 0
) -> tuple[Reference, Scene]:
    """Load a picture as a reference, and as a scene of one frame that is cropped as scenes are.

    Args:
        path: the picture.
        detector: finds the face.
        recogniser: embeds it.
        size: of the network's frames, pixels.
        choose: which face is meant, counted from the left, from 1; 0: there must be only one.

    Raises:
        UserError: a picture that cannot be read; else as :func:`ipfvr.faces.recognise.reference_face`.
    """
    image, side, known = read_image(path), round(MARGIN * size), sha256(path)
    points = reference_face(image, detector, choose or None, path).landmarks
    embedding = embed_faces(image[None], points[None], recogniser)[0]
    reference = Reference(path, crop(image, crop_matrix(points, size), size), embedding, known)
    matrix = crop_matrix(points, side)
    square, landmarks = crop(image, matrix, side)[None], apply(matrix, points)[None]
    return reference, Scene(path, square, landmarks, np.zeros(1, int), False, known)


def refuse_same_files(train: Sequence[Path], test: Sequence[Path]) -> None:
    """Refuse a file that is both trained on and tested on.

    Raises:
        UserError: the line names the two.
    """
    known = {sha256(path): path for path in train}
    for path in test:
        if sha256(path) in known:
            raise UserError(f"{path} is the same file as {known[sha256(path)]}: a test scene must not be trained on")


def refuse_same_frames(train: Sequence[Scene], test: Sequence[Scene]) -> None:
    """Reject test scenes with frames of a training scene, even if these are encoded again or at another size.

    Raises:
        UserError: the line names the two scenes.
    """
    for held in test:
        for scene in train:
            share = twin_share(thumbnails(held.frames), thumbnails(scene.frames))
            if share > TWINS:
                raise UserError(
                    f"{share:.0%} of the frames of {held.path} are also in {scene.path}: a test scene must not be "
                    "trained on; take one of the two out"
                )


def twin_share(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Share of a scene's frames that are, but for noise, frames of another: 0 to 1, from the scenes' thumbnails."""
    squares = (mine**2).sum(1)[:, None] + (theirs**2).sum(1) - 2 * mine @ theirs.T
    return float((squares.min(1) < mine.shape[1] * TWIN**2).mean())


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """Aligned crops (F, S, S, 3) uint8 as small grey pictures, (F, THUMBNAIL^2) float32, grey levels.

    Their mean brightness is taken off.

    They show the aligned face alone, which is never twice the same; backgrounds are.
    """
    size, side = THUMBNAIL, frames.shape[1]
    cut = slice(round(0.2 * side), round(0.8 * side))
    small = [
        cv2.resize(cv2.cvtColor(f[cut, cut], cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)
        for f in frames
    ]
    flat = np.stack(small).reshape(len(small), -1).astype(np.float32)
    return flat - flat.mean(1, keepdims=True)


def judge(
    scenes: Sequence[Scene], references: Sequence[Reference], recogniser: Recogniser, config: Config
) -> tuple[dict[str, float], list[str]]:
    """Judge by mean cosines whether scenes and references show one person.

    Args:
        scenes: of the person.
        references: of the person.
        recogniser: embeds; its name stands beside the numbers.
        config: ``data.same_person`` is the bound, ``data.force`` turns a refusal into a remark.

    Returns:
        Each scene's mean cosine to the reference that is nearest to it; remarks, the references among them that are
        like no scene.

    Raises:
        UserError: a scene that is like no reference.
    """
    bound, table = config.data.same_person, torch.stack([r.embedding for r in references])
    rows = []
    for scene in scenes:
        chosen = np.linspace(0, len(scene.frames) - 1, JUDGED).astype(int)
        faces = embed_faces(scene.frames[chosen], scene.landmarks[chosen], recogniser)
        rows.append((faces @ table.T).mean(0))
    cosines = torch.stack(rows)  # (scenes, references)
    likeness = {scene.path.name: round(float(row.max()), 4) for scene, row in zip(scenes, cosines, strict=True)}
    remarks = []
    strange = [scene for scene in scenes if likeness[scene.path.name] < bound]
    if strange:
        named = ", ".join(f"{s.path} (mean cosine {likeness[s.path.name]:.2f})" for s in strange)
        line = f"these scenes show another person than the references, by {recogniser.name} (bound {bound}): {named}"
        if not config.data.force:
            raise UserError(f"{line}; remove the scenes, or set data.force=true")
        remarks.append(line)
    for reference, column in zip(references, cosines.T, strict=True):
        if float(column.max()) < bound and len(strange) < len(scenes):
            remarks.append(
                f"the reference {reference.path} looks like another person than the scenes, by {recogniser.name}: "
                f"cosine {float(column.max()):.2f}, bound {bound}"
            )
    return likeness, remarks


class SceneDataset(Dataset):
    """Windows of scenes with their low-quality twins.

    An item is that of :class:`ipfvr.data.faces.FaceDataset` with ``landmarks`` (F, 5, 2) float32, pixels of ``pixels``.
    """

    def __init__(self, scenes: Sequence[Scene], identity: str, config: Config) -> None:
        self.scenes, self.identity, self.config = scenes, identity, config

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        rng = np.random.default_rng(draw.seed)
        start = int(rng.choice(self.scenes[draw.index].starts(self.config.video.clip_frames)))
        level = str(rng.choice(self.config.data.levels))
        return self.window(draw.index, start, level, rng, augment=True)

    def window(self, index: int, start: int, level: str, rng: np.random.Generator, augment: bool) -> dict[str, Any]:
        """Return the clip of scene ``index`` from frame ``start`` on, degraded at ``level``."""
        scene, config = self.scenes[index], self.config
        clip = slice(start, start + config.video.clip_frames)
        size = config.video.size
        matrix = draw_augmentation(scene.frames.shape[1], size, config.data if augment else None, rng)
        landmarks = apply(matrix, scene.landmarks[clip])
        if np.linalg.det(matrix[:, :2]) < 0:
            landmarks = landmarks[:, MIRRORED]
        sharp = warp_frames(scene.frames[clip], matrix, size)
        if augment and config.data.variation:
            sharp = vary(sharp, config.data.variation, rng, soft=False)
        return {
            **make_pair(sharp, level, config, rng),
            "landmarks": torch.from_numpy(landmarks).float(),
            "text": config.prompt.positive,
            "identity": self.identity,
        }


class SceneData(pl.LightningDataModule):
    """Endless clips of one person's training scenes."""

    def __init__(self, config: Config, person: Person) -> None:
        super().__init__()
        self.config, self.person = config, person
        self.start = 0  # batches already seen: set before resuming

    def setup(self, stage: str | None = None) -> None:
        """Make the dataset; the scenes are read beforehand."""
        self.train = SceneDataset(self.person.train, self.person.identity, self.config)

    def train_dataloader(self) -> DataLoader:
        """Batches of ``data.clip_batch_size`` clips."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = PictureAndClipSampler(0, len(self.train), self.config, self.start, rank, world)
        return DataLoader(self.train, batch_sampler=sampler, num_workers=self.config.data.workers)
