"""The candidates from one person's raw videos and pictures: which are kept in ROOT/<identity> or dropped, and why."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.data.scenes import TWINS, thumbnails, twin_share
from ipfvr.faces.align import crop, crop_matrix, scale_of
from ipfvr.faces.detect import Detector
from ipfvr.faces.people import face_vector
from ipfvr.faces.recognise import Recogniser, reference_face
from ipfvr.faces.track import FaceTrack, scan_video
from ipfvr.prepare.quality import detail_side
from ipfvr.video.reader import VideoReader, read_image
from ipfvr.video.writer import VideoWriter, write_picture

LOOKED_AT = 5  # frames of a scene whose detail is measured
SHOWN = 160  # pixels of a report's thumbnail


@dataclass
class Candidate:
    """A picture, or the track of one face through one shot, with the decision about it.

    Attributes:
        source: the file.
        start, stop: frames of the video; 0 and 1 for a picture.
        cosine: mean cosine to the person's pictures; None: not compared.
        width: median of the source's pixels that the crop's side spans.
        detail: median of :func:`ipfvr.prepare.quality.detail_side` over some frames; None: not measured.
        dropped: why it was not kept; empty: it was.
        part: ``reference``, ``train`` or ``test`` where it was kept.
        name: of the file that was made of it.
        thumbnail: a JPEG of the square, SHOWN pixels wide, as a data URI; empty where there is no face.
        twins: what tells whether two scenes share frames, see :func:`ipfvr.data.scenes.thumbnails`; not in records.
    """

    source: Path
    start: int = 0
    stop: int = 1
    cosine: float | None = None
    width: float = 0.0
    detail: float | None = None
    dropped: str = ""
    part: str = ""
    name: str = ""
    thumbnail: str = field(default="", repr=False)
    twins: np.ndarray | None = field(default=None, repr=False)

    def record(self) -> dict[str, Any]:
        """Return the candidate for JSON; ``Candidate(**record)`` gives it back, without ``twins``."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "twins"} | {"source": str(self.source)}


@dataclass(frozen=True)
class Networks:
    """The networks that examine faces."""

    detector: Detector
    recogniser: Recogniser


def prepare_pictures(
    files: Sequence[Path], folder: Path, networks: Networks, config: Config
) -> tuple[list[Candidate], np.ndarray | None]:
    """Write the pictures of a person as aligned squares to ``folder``/reference.

    Of three pictures or more, one that is like none of the others is taken for somebody else's.

    Returns:
        What became of each; the person's vector (D,) of length 1, None where no picture was kept.
    """
    candidates, vectors = [Candidate(file) for file in files], {}
    images = {}
    for index, candidate in enumerate(candidates):
        try:
            image = read_image(candidate.source)
            face = reference_face(image, networks.detector, name=candidate.source.name)
        except UserError as error:
            candidate.dropped = str(error)
            continue
        matrix = crop_matrix(face.landmarks, config.prepare.size)
        images[index] = crop(image, matrix, config.prepare.size)
        candidate.width = config.prepare.size / scale_of(matrix)
        candidate.thumbnail = _thumbnail(images[index])
        vectors[index] = face_vector(image, face, networks.recogniser)
    if len(vectors) > 2:
        for index, vector in vectors.items():
            likeness = max(float(vector @ other) for i, other in vectors.items() if i != index)
            candidates[index].cosine = likeness
            if likeness < config.people.same:
                candidates[
                    index
                ].dropped = (
                    f"like no other picture (best cosine {likeness:.2f}, bound {config.people.same}): somebody else?"
                )
    kept = [index for index in vectors if not candidates[index].dropped]
    for index in kept:
        candidate = candidates[index]
        candidate.part, candidate.name = "reference", f"{candidate.source.stem}.png"
        write_picture(folder / "reference" / candidate.name, images[index], 6)
    if not kept:
        return candidates, None
    mean = np.mean([vectors[index] for index in kept], axis=0)
    return candidates, mean / np.linalg.norm(mean)


def prepare_video(
    file: Path,
    person: np.ndarray,
    folder: Path,
    networks: Networks,
    config: Config,
    progress: Callable[[int], None] | None = None,
) -> list[Candidate]:
    """Write the scenes of a video that show a person as square crops to ``folder``.

    The video is read twice, a frame at a time: once to find shots and faces, once to crop and to look at the crops.

    Args:
        file: the video; of interlaced film one frame is made of two fields.
        person: the person's vector (D,).
        folder: where crops are written, as ``<video>_s<n>.mp4``.
        networks: see there.
        config: ``prepare``, ``faces`` and ``people`` are used.
        progress: called with the number of frames after each, twice.

    Returns:
        What became of each face's way through each shot, in time's order.
    """
    settings = config.prepare
    try:
        reader = VideoReader(file, interlaced="frame")
        scan = scan_video(
            reader,
            networks.detector,
            config.faces,
            lambda image, face: face_vector(image, face, networks.recogniser),
            progress,
            config.faces.every,
        )
    except UserError as error:
        return [Candidate(file, dropped=str(error))]
    if not scan.tracks:
        return [Candidate(file, stop=scan.frames, dropped=f"no face found by the {networks.detector.name} detector")]
    candidates = [_described(file, track, person, config) for track in scan.tracks]
    drop_simultaneous(candidates)
    for number, candidate in enumerate((c for c in candidates if not c.dropped), start=1):
        candidate.name = f"{file.stem}_s{number:02d}.mp4"
    _crop_scenes(reader, candidates, scan.tracks, folder, config, progress)
    for candidate in candidates:
        if not candidate.dropped and candidate.detail < settings.min_detail:
            candidate.dropped = (
                f"blurred: a side of {candidate.detail:.0f} pixels holds all its detail "
                f"(prepare.min_detail {settings.min_detail:g})"
            )
            (folder / candidate.name).unlink()
            candidate.name = ""
    return candidates


def drop_simultaneous(candidates: Sequence[Candidate]) -> None:
    """Keep only the face most like the person among faces seen at the same time: nobody appears twice at once."""
    kept: list[Candidate] = []
    for candidate in sorted((c for c in candidates if not c.dropped), key=lambda c: -c.cosine):
        rival = next((k for k in kept if candidate.start < k.stop and k.start < candidate.stop), None)
        if rival is None:
            kept.append(candidate)
        else:
            candidate.dropped = f"a face more like the person is seen at the same time (cosine {rival.cosine:.2f})"


def split_scenes(scenes: Sequence[Candidate], train_scenes: int, rng: np.random.Generator) -> None:
    """Give each scene its part, so that none of the tests is related to what is trained on.

    Scenes of one video stay together, as do scenes with frames in common, whatever their videos; where that leaves one
    group, its shots are told apart instead, unless they share frames. The groups are taken in random order: to
    ``train`` until it has ``train_scenes`` (0: all it can get), the others to ``test``, which gets at least one where
    there are two.

    Args:
        scenes: kept candidates with ``twins``; their ``part`` is set.
        train_scenes: see above.
        rng: decides who goes where.
    """
    groups = _groups(scenes, lambda a, b: a.source == b.source or _share_frames(a, b))
    if len(groups) == 1:
        groups = _groups(scenes, _share_frames)
    order = [groups[i] for i in rng.permutation(len(groups))]
    trained = 0
    for number, group in enumerate(order, start=1):
        full = trained >= train_scenes > 0
        part = "test" if trained and (full or number == len(order)) else "train"
        trained += len(group) if part == "train" else 0
        for scene in group:
            scene.part = part


def _groups(scenes: Sequence[Candidate], related: Callable[[Candidate, Candidate], bool]) -> list[list[Candidate]]:
    """Group scenes that are related directly or through others."""
    groups: list[list[Candidate]] = []
    for scene in scenes:
        near = [g for g in groups if any(related(scene, other) for other in g)]
        groups = [g for g in groups if not any(g is n for n in near)] + [[*(s for g in near for s in g), scene]]
    return groups


def _share_frames(a: Candidate, b: Candidate) -> bool:
    return max(twin_share(a.twins, b.twins), twin_share(b.twins, a.twins)) > TWINS


def _described(file: Path, track: FaceTrack, person: np.ndarray, config: Config) -> Candidate:
    """Make the candidate of a track, with the reasons to drop it that are known without its pixels."""
    settings, frames = config.prepare, len(track.landmarks)
    # Every few frames are enough to know how large a face is.
    scales = [scale_of(track.matrix(track.start + i, settings.size)) for i in range(0, frames, 8)]
    width = float(np.median([settings.size / scale for scale in scales]))
    cosine = float((track.vectors @ person).mean()) if len(track.vectors) else -1.0
    candidate = Candidate(file, track.start, track.stop, cosine, width)
    if cosine < config.people.same:
        candidate.dropped = f"another person (cosine {cosine:.2f}, people.same {config.people.same})"
    elif frames < settings.min_frames:
        candidate.dropped = f"{frames} frames (prepare.min_frames {settings.min_frames})"
    elif width < settings.min_width:
        candidate.dropped = f"small: {width:.0f} pixels wide (prepare.min_width {settings.min_width:g})"
    return candidate


def _crop_scenes(
    reader: VideoReader,
    candidates: Sequence[Candidate],
    tracks: Sequence[FaceTrack],
    folder: Path,
    config: Config,
    progress: Callable[[int], None] | None,
) -> None:
    """Write the crops of candidates that are not dropped, and look at some frames of all."""
    settings, size = config.prepare, config.prepare.size
    stops = [min(c.stop, c.start + settings.max_frames) if settings.max_frames else c.stop for c in candidates]
    looked = [set(np.linspace(c.start, s - 1, LOOKED_AT).astype(int)) for c, s in zip(candidates, stops, strict=True)]
    details: list[list[int]] = [[] for _ in candidates]
    small: list[list[np.ndarray]] = [[] for _ in candidates]
    with ExitStack() as stack:
        writers: dict[int, VideoWriter] = {}
        for frame in reader:
            for i, (candidate, track) in enumerate(zip(candidates, tracks, strict=True)):
                if not candidate.start <= frame.index < stops[i]:
                    continue
                if candidate.dropped and frame.index not in looked[i]:
                    continue
                square = crop(frame.image, track.matrix(frame.index, size), size)
                if frame.index in looked[i]:
                    details[i].append(detail_side(square))
                    if len(details[i]) <= LOOKED_AT // 2 + 1:  # up to the middle one, which is shown
                        candidate.thumbnail = _thumbnail(square)
                if candidate.dropped:
                    continue
                if i not in writers:
                    path = folder / candidate.name
                    writers[i] = stack.enter_context(VideoWriter(path, size, size, reader.info.rate, crf=settings.crf))
                writers[i].write(square)
                small[i].append(thumbnails(square[None])[0])
            if progress is not None:
                progress(frame.index + 1)
    for candidate, stop, found, seen in zip(candidates, stops, details, small, strict=True):
        candidate.stop = stop
        candidate.detail = min(float(np.median(found)), candidate.width) if found else None
        candidate.twins = np.stack(seen) if seen else None


def _thumbnail(square: np.ndarray) -> str:
    small = cv2.cvtColor(cv2.resize(square, (SHOWN, SHOWN), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    _, code = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(code).decode()}"
