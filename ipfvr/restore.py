"""Restore a face video: ``python -m ipfvr.restore IN.mp4 --reference REF.jpg --output OUT.mp4``.

The main face is found, followed, aligned, cropped and restored; the restored crop is written, and a JSON with
all that made it beside it. Frames without the face pass through, shrunk into the square. ``--aligned`` says
that the input already is such a square crop.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ipfvr.config import load_config
from ipfvr.errors import UserError, run_verb
from ipfvr.faces.align import crop
from ipfvr.faces.detect import Detector, make_detector
from ipfvr.faces.reference import reference_crop
from ipfvr.faces.track import Track, track_video
from ipfvr.files import check_writable, write_json
from ipfvr.identity.prompt_file import read_by_hand
from ipfvr.options import Config
from ipfvr.provenance import provenance
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter

_EXPRESSIONS = 5  # frames in which the video's expression is read


@dataclass(frozen=True)
class Job:
    """One restoration.

    Attributes:
        source: the low-quality video.
        output: the restored video; its JSON lies beside it.
        references: pictures of the person.
        aligned: the source is a square aligned crop.
        face: which face of a reference with several, counted from the left, from 1; 0: there is but one.
        part: (start, stop) frames to restore; None: all.
    """

    source: Path
    output: Path
    references: tuple[Path, ...] = ()
    aligned: bool = False
    face: int = 0
    part: tuple[int, int] | None = None


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.restore", description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="the video")
    parser.add_argument("--reference", nargs="+", default=[], metavar="PICTURE", help="pictures of the person")
    parser.add_argument("--face", type=int, default=0, help="which face of the reference, from the left, from 1")
    parser.add_argument("--prompt", metavar="FILE", help="a prompt.yaml with words by hand; describe writes one")
    parser.add_argument("--lora", metavar="FOLDER", help="the person's LoRA, as fit writes it")
    parser.add_argument("--output", type=Path, required=True, help="OUT.mp4; OUT.json is written beside it")
    parser.add_argument("--aligned", action="store_true", help="the input is a square aligned face crop")
    parser.add_argument("--frames", help="A:B restores frames A to B - 1 only; the parts of a video fit together")
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as preset=full sampler.steps=8")
    args = parser.parse_intermixed_args(argv)
    # A list option takes all that follows it, the configuration's pairs too.
    pairs = [r for r in args.reference if "=" in r and not Path(r).exists()]
    references = tuple(Path(r) for r in args.reference if r not in pairs)
    if args.lora:
        pairs.append(f"weights.lora={args.lora}")
    if args.prompt:
        pairs.append(f"prompt.file={args.prompt}")
    config = load_config(args.config, args.overrides + pairs)
    job = Job(args.input, args.output, references, args.aligned, args.face, _parse_part(args.frames))
    report = restore(job, config)
    print(
        f"{job.output}: {report['frames']} frames ({report['restored']} restored) in {report['seconds']:.1f} s, "
        f"peak memory {report['peak_memory_mb']} MB"
    )


def restore(job: Job, config: Config, quiet: bool = False) -> dict[str, Any]:
    """Restore one video.

    Args:
        job: what to restore.
        config: how.
        quiet: without a progress bar.

    Returns:
        What is in the JSON beside the output.

    Raises:
        UserError: input, reference, output or weights that cannot be used.
    """
    began = time.monotonic()
    reader = VideoReader(job.source)
    _check(job, reader)
    check_writable(job.output)
    by_hand = read_by_hand(job.references, config)
    # Aligned crops without a reference need none.
    detector = None if job.aligned and not job.references else make_detector(config.faces)
    references = [reference_crop(path, detector, config.video.size, job.face) for path in job.references]
    # Imported here: what a user can have got wrong is said before the seconds that this takes.
    from ipfvr.identity.face2text import with_words
    from ipfvr.restoration import Restorer, plan_windows, segments_of

    track = None if job.aligned else _track(reader, detector, config, quiet)
    segments = [(0, reader.info.frames)] if track is None else segments_of(track.scenes)
    start, stop = job.part or (0, reader.info.frames)
    windows = plan_windows(segments, config, (start, stop))
    expressions = _video_faces(reader, track, config.video.size) if references and config.prompt.describe else []
    config, words = with_words(config, references, by_hand, expressions)
    for note in [] if quiet else words.get("notes", []):
        print(f"note: {note}", file=sys.stderr)
    restorer = Restorer(config)
    restorer.files.update(words.pop("files", {}))
    record: dict[str, Any] = {"references": [str(p) for p in job.references], "words": words}
    if references:
        tokens = restorer.show_references(references)
        record["reference_tokens"] = None if tokens is None else list(tokens.shape)
        record["image_prompt"] = "not used: weights.adapter is empty" if tokens is None else config.weights.adapter
        if tokens is None and not quiet:
            print("note: without weights.adapter the network does not see the reference", file=sys.stderr)
    size, restored = config.video.size, 0
    with (
        tqdm(total=len(windows) * restorer.steps, desc="restoring", unit="step", disable=quiet, leave=False) as bar,
        VideoWriter(
            job.output,
            size,
            size,
            reader.info.rate,
            reader.info.time_base,
            crf=config.video.crf,
            sound_from=job.source,
            metadata={"comment": "AI-restored with ipfvr"},
        ) as writer,
    ):
        source = _Crops(reader, track, size, min([start, *(w.start for w in windows[:1])]))
        frames = restorer.restore_stream(source, windows, bar.update)
        borders = {w.keep_start for w in windows} | {border for segment in segments for border in segment}
        for index in range(start, stop):
            if index in borders:
                writer.restart()
            if track is None or track.present[index]:
                image = next(face for number, face in frames if number == index)
                restored += 1
            else:
                image = letterbox(source.passed(index), size)
            writer.write(image, source.times.pop(index))
    report = {
        "input": str(job.source),
        "output": str(job.output),
        "frames": stop - start,
        "restored": restored,
        "clips": len(windows),
        "sound": writer.sound,
        "seconds": round(time.monotonic() - began, 3),
        "peak_memory_mb": peak_memory_mb(),
        "lora": restorer.lora and {"person": restorer.lora["identity"], "sha256": restorer.lora["adapter_sha256"]},
        **record,
        **provenance(config, config.seed, restorer.files, str(restorer.device)),
    }
    write_json(job.output.with_suffix(".json"), report)
    return report


def letterbox(image: np.ndarray, size: int) -> np.ndarray:
    """A whole frame shrunk into a black square of ``size``: how a frame without a face passes through."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = np.zeros((size, size, 3), np.uint8)
    top, left = (size - inner[1]) // 2, (size - inner[0]) // 2
    square[top : top + inner[1], left : left + inner[0]] = small
    return square


def peak_memory_mb() -> int:
    """The most memory this process has had, MB; on a GPU its own is not counted."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


class _Crops:
    """The frames' crops for the restorer, and what passes by it: times, and frames without a face."""

    def __init__(self, reader: VideoReader, track: Track | None, size: int, start: int) -> None:
        self.track, self.size = track, size
        self.frames = reader.frames(start)
        self.times: dict[int, int] = {}
        self.without: dict[int, np.ndarray] = {}

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        while True:
            index, face = self._advance()
            if face is not None:
                yield index, face

    def passed(self, index: int) -> np.ndarray:
        """The whole frame ``index``, which has no face."""
        while index not in self.without:
            self._advance()
        return self.without.pop(index)

    def _advance(self) -> tuple[int, np.ndarray | None]:
        frame = next(self.frames)
        self.times[frame.index] = frame.pts
        if self.track is None:
            return frame.index, frame.image
        matrix = self.track.matrix(frame.index, self.size)
        if matrix is None:
            self.without[frame.index] = frame.image
            return frame.index, None
        return frame.index, crop(frame.image, matrix, self.size)


def _check(job: Job, reader: VideoReader) -> None:
    info = reader.info
    for path in job.references:
        if not path.is_file():
            raise UserError(f"no reference picture {path}")
    if job.output.exists() and job.output.samefile(job.source):
        raise UserError(f"{job.output} is the input itself; choose another output")
    if job.aligned and info.width != info.height:
        raise UserError(
            f"{job.source} is {info.width} x {info.height}, not a square aligned crop: leave --aligned out, "
            "or make crops with python -m ipfvr.crop"
        )
    if job.part and not 0 <= job.part[0] < job.part[1] <= info.frames:
        raise UserError(f"--frames {job.part[0]}:{job.part[1]} is not inside the {info.frames} frames of {job.source}")


def _track(reader: VideoReader, detector: Detector, config: Config, quiet: bool) -> Track:
    with tqdm(total=reader.info.frames, desc="finding the face", unit="frame", disable=quiet, leave=False) as bar:
        track = track_video(reader, detector, config.faces, lambda _: bar.update())
    if not track.present.any():
        raise UserError(
            f"no face found in {reader.path}: if it is a square face crop already, say --aligned; "
            "else lower faces.min_confidence"
        )
    return track


def _video_faces(reader: VideoReader, track: Track | None, size: int) -> list[np.ndarray]:
    """A few aligned faces from all over the video, in which its expression is read."""
    seen = np.arange(reader.info.frames) if track is None else np.flatnonzero(track.present)
    chosen = sorted({int(index) for index in seen[np.linspace(0, len(seen) - 1, _EXPRESSIONS).round().astype(int)]})
    frames = [next(iter(reader.frames(index))).image for index in chosen]
    if track is None:
        return frames
    return [crop(f, track.matrix(i, size), size) for i, f in zip(chosen, frames, strict=True)]


def _parse_part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit()):
        raise UserError(f"--frames {text} is not of the form A:B, such as 0:24")
    return int(first), int(last)


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
