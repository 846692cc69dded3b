"""What a visitor has dropped: films and photos, the people in them, and their reference pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ipfvr.app.names import file_name
from ipfvr.app.uploads import take
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.faces.align import crop
from ipfvr.faces.detect import Detector, Face, make_detector
from ipfvr.faces.group import group_tracks
from ipfvr.faces.people import face_vector, with_bounds
from ipfvr.faces.recognise import Recogniser, load_recogniser, reference_face
from ipfvr.faces.track import FaceTrack, Scan, scan_video
from ipfvr.film.source import open_source
from ipfvr.video.photo import Photo
from ipfvr.video.reader import VideoReader, read_image
from ipfvr.video.writer import write_picture

SHOWN = 6  # people who can be named; others are restored together or left alone
OWN = "own"  # folder of the pictures that were given to one person by hand
_THUMBNAIL = 192  # side of a face on a card, pixels
_MARGIN = 0.6  # of a face's box, on each side of what is cut out of a picture
_SMALL = 160  # pixels: a face cut out with fewer is enlarged, so that it is found again

Progress = Callable[[float, str], object]


@dataclass
class Film:
    """A film or photo with the faces that were found in it."""

    path: Path
    reader: VideoReader
    scan: Scan

    @property
    def is_photo(self) -> bool:
        """Whether it is a photo."""
        return isinstance(self.reader, Photo)

    def image(self, index: int) -> np.ndarray:
        """Return a frame (H, W, 3) uint8 RGB of the film as it is."""
        return next(iter(self.reader.frames_at([index]))).image


@dataclass
class FoundPerson:
    """A person who was found.

    Attributes:
        tracks: (number of the film, track) of each stretch in which the person is seen.
        sure: mean cosine of the person's faces to their mean: how alike the recogniser finds them.
        vector: the mean (D,), of length 1.
        thumbnail: (192, 192, 3) uint8 RGB, aligned.
        still: the face cut out of the film: it stands in where the person has no picture.
        pictures: reference pictures.
    """

    tracks: list[tuple[int, FaceTrack]]
    sure: float
    vector: np.ndarray
    thumbnail: np.ndarray
    still: Path
    pictures: list[Path] = field(default_factory=list)

    def frames(self, film: int) -> int:
        """Return the number of frames of a film in which the person is seen."""
        return sum(len(track.landmarks) for number, track in self.tracks if number == film)


class CardValues(NamedTuple):
    """The values of one person's card: whether to restore, the name, the LoRA's name, and the words."""

    restore: bool
    name: str
    lora: str
    words: str


@dataclass
class Project:
    """The work of one visitor.

    Attributes:
        folder: of the app, for this project alone.
        films: what is to be restored.
        people: who was found, the most seen first; at most :data:`SHOWN`.
        more: how many others were found.
        bound: cosine from which two faces are one person.
        alone: cosine from which a picture shows the only person there is.
        taken: the pictures that were dropped, to where they lie.
        cards: the latest values of the window's cards, for a window that is opened again; empty: none were changed.
    """

    folder: Path
    films: list[Film]
    people: list[FoundPerson]
    more: int
    bound: float
    alone: float
    taken: dict[Path, Path] = field(default_factory=dict)
    cards: list[CardValues] = field(default_factory=list)

    def busiest(self, number: int) -> int:
        """Return the frame of a film with most people, in the middle of the longest such stretch."""
        count = np.zeros(self.films[number].reader.info.frames + 1, int)
        for seen in self.people:
            for film, track in seen.tracks:
                if film == number:
                    count[track.start : track.stop] += 1
        count[-1] = -1
        edges = np.flatnonzero(np.diff((count == count.max()).astype(int), prepend=0))
        starts, stops = edges[::2], edges[1::2]
        longest = int((stops - starts).argmax())
        return int(starts[longest] + stops[longest] - 1) // 2


class FaceModels:
    """The networks that find and recognise faces, loaded once."""

    def __init__(self, config: Config) -> None:
        self.detector: Detector = make_detector(config.faces)
        self.recogniser: Recogniser = load_recogniser(config.people.recogniser)
        bounds = with_bounds(config.people, self.recogniser.name)
        self.bound, self.alone = bounds.same, bounds.alone


def open_project(
    folder: Path, uploads: Sequence[Path], config: Config, face_models: FaceModels, limit: int, progress: Progress
) -> Project:
    """Take films and photos, and find the people in them.

    Args:
        folder: of the project; it is made.
        uploads: the files that were dropped.
        config: how films are read and faces are found.
        face_models: the networks.
        limit: MB of a file.
        progress: called with the share that is done, 0 to 1, and what is being done.

    Raises:
        UserError: a file that is too large, or no film or picture.
    """
    films = []
    for number, upload in enumerate(uploads):
        path = take(upload, folder, limit)
        try:
            reader = open_source(path, config.video)
        except UserError:
            path.unlink()
            raise
        what = f"finding faces in {path.name}"
        films.append(
            Film(
                path,
                reader,
                _scan(reader, config, face_models, lambda s, n=number, w=what: progress((n + s) / len(uploads), w)),
            )
        )
    people, more = _people(films, folder, face_models, config.video.size)
    return Project(folder, films, people, more, face_models.bound, face_models.alone)


def add_pictures(
    project: Project, uploads: Sequence[Path], face_models: FaceModels, limit: int
) -> tuple[list[str], list[str]]:
    """Add reference pictures to the people whom they show; a picture that was added before is added anew.

    Of a picture with several people each face goes to its person, cut out.

    Returns:
        Whom each picture shows, a line each; and why others were refused: too large, no picture, nobody who was found.
    """
    said, refused = [], []
    for upload in uploads:
        try:
            if upload not in project.taken:
                project.taken[upload] = take(upload, project.folder / "pictures", limit)
            said.append(_assign(project, project.taken[upload], face_models))
        except UserError as error:
            refused.append(str(error))
    return said, refused


def add_picture_of(project: Project, number: int, upload: Path, face_models: FaceModels, limit: int) -> None:
    """Add a reference picture to one person, whatever the recogniser says.

    Raises:
        UserError: a file that is too large, no picture, or without one clear face.
    """
    path = take(upload, project.folder / OWN, limit)
    try:
        reference_face(read_image(path), face_models.detector, None, path)
    except UserError:
        path.unlink()
        raise
    project.people[number].pictures.append(path)


def best_frame(track: FaceTrack) -> int:
    """Return the frame of a track in which the face is detected and largest."""
    spread = np.linalg.norm(track.landmarks - track.landmarks.mean(1, keepdims=True), axis=(1, 2))
    return track.start + int(np.where(track.detected, spread, 0).argmax())


def _scan(reader: VideoReader, config: Config, face_models: FaceModels, progress: Callable[[float], object]) -> Scan:
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        if done % 10 == 0:
            progress(min(1.0, done / reader.info.frames))

    def embed(image: np.ndarray, face: Face) -> np.ndarray:
        return face_vector(image, face, face_models.recogniser)

    return scan_video(reader, face_models.detector, config.faces, embed, count, config.faces.every)


def _people(films: Sequence[Film], folder: Path, face_models: FaceModels, size: int) -> tuple[list[FoundPerson], int]:
    tracks = [(number, track) for number, film in enumerate(films) for track in film.scan.tracks]
    groups = group_tracks(tracks, face_models.bound)
    people = []
    for group in groups[:SHOWN]:
        own = [tracks[n] for n in group]
        vectors = np.concatenate([track.vectors for _, track in own])
        mean = vectors.mean(0) if len(vectors) else np.ones(1)
        vector = mean / np.linalg.norm(mean)
        sure = float((vectors @ vector).mean()) if len(vectors) else 0.0
        number, track = max(own, key=lambda entry: entry[1].area)
        index = best_frame(track)
        image = films[number].image(index)
        thumbnail = crop(image, track.matrix(index, size), size)
        thumbnail = cv2.resize(thumbnail, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        still = folder / f"still_{len(people) + 1}.png"
        write_picture(still, cut_out(image, track.landmarks[index - track.start]), 3)
        people.append(FoundPerson(own, sure, vector, thumbnail, still))
    return people, len(groups) - len(people)


def cut_out(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Cut a face and its surroundings, without a neighbour's face, from a picture (H, W, 3): (h, w, 3)."""
    low, high = landmarks.min(0), landmarks.max(0)
    reach = (0.5 + 2 * _MARGIN) * float((high - low).max())
    middle = (low + high) / 2
    left, top = np.maximum(np.floor(middle - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(middle + reach) + 1, image.shape[1::-1]).astype(int)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    grow = _SMALL / max(1, min(part.shape[:2]))
    if grow > 1:
        part = cv2.resize(part, None, fx=grow, fy=grow, interpolation=cv2.INTER_CUBIC)
    return part


def _assign(project: Project, path: Path, face_models: FaceModels) -> str:
    """Add a picture to the people whom it shows, and return their names.

    The only person there is needs a lower likeness, as in :func:`ipfvr.faces.people.match_people`: blur costs likeness,
    and the picture can mean nobody else.
    """
    image = read_image(path)
    faces = face_models.detector.detect(image)
    if not faces:
        raise UserError(f"no face found in the picture {path}: give one that shows it larger and from the front")
    if not project.people:
        raise UserError(f"nobody was found in the film whom {path} could show")
    lone = len(project.people) == len(faces) == 1 and not project.more
    bound = project.alone if lone else project.bound
    given, best = [], -1.0
    for face in faces:
        vector = face_vector(image, face, face_models.recogniser)
        cosines = [float(vector @ seen.vector) if len(vector) == len(seen.vector) else -1.0 for seen in project.people]
        number = int(np.argmax(cosines))
        best = max(best, cosines[number])
        if cosines[number] >= bound:
            picture = path
            if len(faces) > 1:
                picture = path.with_name(f"{path.stem}_face_{len(given) + 1}.png")
                write_picture(picture, cut_out(image, face.landmarks), 3)
            project.people[number].pictures.append(picture)
            given.append(f"person {number + 1} (likeness {cosines[number]:.2f})")
    if not given:
        raise UserError(
            f"{file_name(path.name)} shows nobody who was found: the likest face has a likeness of {best:.2f}, the "
            f"bound is {bound:g}; if you know who it is, give it to the person below"
        )
    return f"{path.name} shows {' and '.join(given)}"
