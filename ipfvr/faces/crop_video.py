"""Crop the main face of a video to an aligned square video, with the transform of every frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipfvr.core.errors import UserError
from ipfvr.core.files import check_writable, write_json
from ipfvr.core.messages import progress_bar
from ipfvr.core.options import Config
from ipfvr.core.provenance import provenance
from ipfvr.faces.align import crop, invert
from ipfvr.faces.detect import Detector, make_detector
from ipfvr.faces.track import Track, track_video
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter


def crop_video(source: Path, output: Path, config: Config) -> dict[str, Any]:
    """Crop the main face of a video; the file is read twice, first to find the face, and never held.

    Args:
        source: the video; of interlaced film one frame is made of two fields.
        output: the crops' video; its JSON lies beside it.
        config: ``video.size``, ``video.crf`` and ``faces`` are used.

    Returns:
        What is in the JSON: see :func:`frame_records` for ``transforms``.

    Raises:
        UserError: an input that cannot be read or has no face, an output that cannot be written.
    """
    reader = VideoReader(source, interlaced="frame")
    if output.exists() and output.samefile(source):
        raise UserError(f"{output} is the input itself; choose another output")
    check_writable(output)
    detector = make_detector(config.faces)
    track = find_face(reader, detector, config)
    size, info = config.video.size, reader.info
    with (
        VideoWriter(output, size, size, info.rate, info.time_base, crf=config.video.crf, sound_from=source) as writer,
        progress_bar(info.frames, "cropping", "frame") as bar,
    ):
        for frame in reader:
            matrix = track.matrix(frame.index, size)
            if matrix is not None:
                writer.write(crop(frame.image, matrix, size), frame.pts)
            bar.update()
    report = {
        "input": str(source),
        "output": str(output),
        "frames": track.frames,
        "cropped": int(track.present.sum()),
        "size": size,
        "sound": writer.sound,
        "detector": detector.name,
        "without_face": [i for i in range(track.frames) if not track.present[i]],
        "transforms": frame_records(track, size),
        **provenance(config, config.seed, detector.weights),
    }
    write_json(output.with_suffix(".json"), report)
    return report


def find_face(reader: VideoReader, detector: Detector, config: Config) -> Track:
    """Return the main face's track.

    Raises:
        UserError: no frame has a face.
    """
    with progress_bar(reader.info.frames, "finding the face", "frame") as bar:
        track = track_video(reader, detector, config.faces, lambda _: bar.update())
    if not track.present.any():
        raise UserError(
            f"no face found in {reader.path} by the {detector.name} detector: give a video that shows one larger, or "
            f"lower faces.min_confidence ({config.faces.min_confidence})"
        )
    return track


def frame_records(track: Track, size: int) -> list[dict[str, Any]]:
    """Return one entry for each frame with the face.

    ``frame``: its index in the source. ``matrix``: (2, 3), from pixels of the frame to pixels of the crop (centre of
    the top-left pixel at 0, 0); ``inverse``: back. ``landmarks``: (5, 2) smoothed, pixels of the frame. ``detected``:
    False where they were interpolated. ``scene``: frames with the same number were smoothed together.
    """
    records = []
    for index in range(track.frames):
        matrix = track.matrix(index, size)
        if matrix is not None:
            records.append(
                {
                    "frame": index,
                    "matrix": matrix.tolist(),
                    "inverse": invert(matrix).tolist(),
                    "landmarks": track.landmarks[index].tolist(),
                    "detected": bool(track.detected[index]),
                    "scene": int(track.scenes[index]),
                }
            )
    return records
