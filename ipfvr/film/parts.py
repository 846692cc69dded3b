"""The finished parts of a job, in a hidden folder beside the output: after a kill the same command resumes from them.

    .OUT.mp4.parts/
      job.json          the job and the hashes of its inputs; a different job discards the folder
      scan.npz          the faces, once all have been found
      words.json        the prompts of each person
      00000120.mp4      the encoded frames from 120 up to the beginning of the next part
      00000120.json     the times of these frames
      00000130.png      frame 130 of the source, which the page will show
      00000120-3.safetensors    the memory that the clips after frame 120 need, for face 3 of the plan
      whole             the output, until it is complete

Every file is either complete or absent, and holds the same bytes that an uninterrupted run would have written.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic, check_writable, write_json
from ipfvr.diffusion.long_video import ClipMemory
from ipfvr.faces.track import FaceTrack, Scan
from ipfvr.video.reader import read_image
from ipfvr.video.writer import write_picture


class Parts:
    """The folder of parts.

    Args:
        output: the output of the job.
        inputs: see :func:`ipfvr.film.inputs.job_inputs`.

    Attributes:
        discarded: the inputs that differ from those of the job whose parts were discarded; empty: none were.

    Raises:
        UserError: the folder cannot be written, or another process uses it.
    """

    def __init__(self, output: Path, inputs: Mapping[str, Any]) -> None:
        self.folder = output.with_name(f".{output.name}.parts")
        check_writable(self.folder / "job.json")
        self._lock = self._acquire_lock()
        inputs = json.loads(json.dumps(inputs, default=str))
        before = self._read("job.json")
        self.discarded = _differences(before, inputs) if before is not None else []
        if before != inputs:
            for path in self.folder.iterdir():
                if path.name != _LOCK:
                    path.unlink()
            write_json(self.folder / "job.json", inputs)

    def path(self, start: int) -> Path:
        """Return the path of the part that begins at frame ``start``."""
        return self.folder / f"{start:08d}.mp4"

    def done(self, start: int) -> bool:
        """Return whether the part that begins at frame ``start`` is complete."""
        return self.path(start).is_file()

    def save_times(self, start: int, times: list[int]) -> None:
        """Write the times of a part's frames. This comes before the part itself, so that every part has its times."""
        write_json(self.path(start).with_suffix(".json"), times)

    def times(self, start: int) -> list[int]:
        """Read what :meth:`save_times` wrote."""
        return json.loads(self.path(start).with_suffix(".json").read_text())

    def save_source(self, index: int, image: np.ndarray) -> None:
        """Write a frame (H, W, 3) uint8 RGB of the source. This comes before the part that the frame belongs to."""
        write_picture(self.folder / f"{index:08d}.png", image, 1)

    def sources(self) -> dict[int, np.ndarray]:
        """Read the frames that :meth:`save_source` wrote, by number."""
        return {int(path.stem): read_image(path) for path in sorted(self.folder.glob("[0-9]*.png"))}

    def save_memories(self, start: int, memories: Mapping[int, ClipMemory]) -> None:
        """Write what the part from ``start`` needs from earlier clips, by number of the presence, before that part."""
        for number, memory in memories.items():
            memory.save(self.folder / f"{start:08d}-{number}.safetensors")

    def memories(self, start: int) -> dict[int, ClipMemory]:
        """Read what :meth:`save_memories` wrote for ``start``, and remove the memories of other parts."""
        found = {}
        for path in self.folder.glob("[0-9]*-*.safetensors"):
            border, _, number = path.stem.partition("-")
            if int(border) == start:
                found[int(number)] = ClipMemory.load(path)
            else:
                path.unlink()
        return found

    def forget_memories(self, before: int) -> None:
        """Remove the memories of parts that begin before a frame."""
        for path in self.folder.glob("[0-9]*-*.safetensors"):
            if int(path.stem.partition("-")[0]) < before:
                path.unlink()

    def save_words(self, words: Mapping[str, Any]) -> None:
        """Write each person's prompts: some composers would not write the same prompt twice."""
        write_json(self.folder / "words.json", words)

    def words(self) -> dict[str, Any] | None:
        """Read what :meth:`save_words` wrote; None: nothing yet."""
        return self._read("words.json")

    def save_scan(self, scan: Scan) -> None:
        """Write the scan of the video."""
        with atomic(self.folder / "scan.npz") as temporary:
            np.savez(temporary, **_to_arrays(scan))

    def scan(self) -> Scan | None:
        """Read what :meth:`save_scan` wrote; None: nothing yet."""
        path = self.folder / "scan.npz"
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            return _from_arrays(dict(arrays))

    def close(self, finished: bool, refused: bool = False) -> None:
        """Release the folder, and remove it if the job is finished or has left nothing worth keeping.

        Args:
            finished: whether the output is complete.
            refused: whether a user error ended the job; restored parts are then worth keeping, a scan is not.
        """
        worth_keeping = (".mp4",) if refused else (".npz", ".mp4")
        if finished or not any(path.suffix in worth_keeping for path in self.folder.iterdir()):
            shutil.rmtree(self.folder)
        self._lock.close()

    def _acquire_lock(self) -> IO[str]:
        lock = (self.folder / _LOCK).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise UserError(f"another process is using {self.folder}: wait for it, or choose another output") from None
        return lock

    def _read(self, name: str) -> Any:
        path = self.folder / name
        return json.loads(path.read_text()) if path.is_file() else None


_LOCK = "lock"


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Return the names of the inputs that differ between two jobs."""
    if isinstance(before, dict) and isinstance(now, dict):
        found: list[str] = []
        for key in sorted(before.keys() | now.keys()):
            found += _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        return found
    return [] if before == now else [name]


def _to_arrays(scan: Scan) -> dict[str, np.ndarray]:
    arrays = {"frames": np.array(scan.frames), "cuts": np.array(scan.cuts, int), "damaged": np.array(scan.damaged, int)}
    arrays["count"] = np.array(len(scan.tracks))
    for number, track in enumerate(scan.tracks):
        arrays[f"numbers{number}"] = np.array([track.start, track.area, track.weight])
        for name in ("landmarks", "detected", "vectors"):
            arrays[f"{name}{number}"] = getattr(track, name)
    return arrays


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> Scan:
    tracks = []
    for number in range(int(arrays["count"])):
        start, area, weight = arrays[f"numbers{number}"].tolist()
        landmarks, detected, vectors = (arrays[f"{name}{number}"] for name in ("landmarks", "detected", "vectors"))
        tracks.append(FaceTrack(int(start), landmarks, detected, area, weight, vectors))
    return Scan(int(arrays["frames"]), arrays["cuts"].tolist(), tracks, arrays["damaged"].tolist())
