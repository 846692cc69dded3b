"""A job's work as it grows: a hidden folder beside the output, from which the same command goes on after a kill.

    .OUT.mp4.parts/
      job.json          what was asked for, with the hashes of all that goes into it; another job discards the folder
      scan.npz          the faces, once all are found
      words.json        the words on each person
      00000120.mp4      the coded frames from 120 on, up to where the next part begins
      00000120.json     their times
      00000130.png      the source's frame 130, which the page will show
      00000120-3.safetensors    what the clips before 120 leave to those after it, of the plan's face 3
      whole             the output, until it is whole

Every file is whole or not there, and holds the bytes that an undisturbed run would have put there.
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
    """The folder.

    Args:
        output: of the job.
        inputs: the job in words and hashes, ready for JSON.

    Attributes:
        discarded: what differs from the job whose parts were there; empty: nothing was discarded.

    Raises:
        UserError: it cannot be written, or another process works in it.
    """

    def __init__(self, output: Path, inputs: Mapping[str, Any]) -> None:
        self.folder = output.with_name(f".{output.name}.parts")
        check_writable(self.folder / "job.json")
        self._lock = self._take()
        inputs = json.loads(json.dumps(inputs, default=str))
        before = self._read("job.json")
        self.discarded = _differences(before, inputs) if before is not None else []
        if before != inputs:
            for path in self.folder.iterdir():
                if path.name != _LOCK:
                    path.unlink()
            write_json(self.folder / "job.json", inputs)

    def path(self, start: int) -> Path:
        """Where the part that begins at frame ``start`` lies."""
        return self.folder / f"{start:08d}.mp4"

    def done(self, start: int) -> bool:
        """Whether that part is whole."""
        return self.path(start).is_file()

    def save_times(self, start: int, times: list[int]) -> None:
        """The times of a part's frames; written before the part is, so that a part that is there has them."""
        write_json(self.path(start).with_suffix(".json"), times)

    def times(self, start: int) -> list[int]:
        """See :meth:`save_times`."""
        return json.loads(self.path(start).with_suffix(".json").read_text())

    def save_source(self, index: int, image: np.ndarray) -> None:
        """A frame (H, W, 3) uint8 RGB of the source; written before the part it belongs to is."""
        write_picture(self.folder / f"{index:08d}.png", image, 1)

    def sources(self) -> dict[int, np.ndarray]:
        """See :meth:`save_source`; by number."""
        return {int(path.stem): read_image(path) for path in sorted(self.folder.glob("[0-9]*.png"))}

    def save_memories(self, start: int, memories: Mapping[int, ClipMemory]) -> None:
        """What the part from ``start`` on needs of earlier clips, by number of the presence; written before it."""
        for number, memory in memories.items():
            memory.save(self.folder / f"{start:08d}-{number}.safetensors")

    def memories(self, start: int) -> dict[int, ClipMemory]:
        """See :meth:`save_memories`; those of other parts are removed."""
        found = {}
        for path in self.folder.glob("[0-9]*-*.safetensors"):
            border, _, number = path.stem.partition("-")
            if int(border) == start:
                found[int(number)] = ClipMemory.load(path)
            else:
                path.unlink()
        return found

    def forget_memories(self, before: int) -> None:
        """Remove those of parts that begin earlier."""
        for path in self.folder.glob("[0-9]*-*.safetensors"):
            if int(path.stem.partition("-")[0]) < before:
                path.unlink()

    def save_words(self, words: Mapping[str, Any]) -> None:
        """Each person's prompts: some composers do not say the same thing twice."""
        write_json(self.folder / "words.json", words)

    def words(self) -> dict[str, Any] | None:
        """See :meth:`save_words`."""
        return self._read("words.json")

    def save_scan(self, scan: Scan) -> None:
        """What was found in the video."""
        with atomic(self.folder / "scan.npz") as temporary:
            np.savez(temporary, **_to_arrays(scan))

    def scan(self) -> Scan | None:
        """See :meth:`save_scan`."""
        path = self.folder / "scan.npz"
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            return _from_arrays(dict(arrays))

    def close(self, finished: bool, refused: bool = False) -> None:
        """Let go of the folder; it is removed where the job is finished, or has come to nothing worth keeping.

        Args:
            finished: the output is whole.
            refused: the job cannot be done as it is asked for; then a scan is not worth keeping, restored parts are.
        """
        worth = (".mp4",) if refused else (".npz", ".mp4")
        if finished or not any(path.suffix in worth for path in self.folder.iterdir()):
            shutil.rmtree(self.folder)
        self._lock.close()

    def _take(self) -> IO[str]:
        lock = (self.folder / _LOCK).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise UserError(
                f"another process is writing {self.folder}: wait for it, or choose another output"
            ) from None
        return lock

    def _read(self, name: str) -> Any:
        path = self.folder / name
        return json.loads(path.read_text()) if path.is_file() else None


_LOCK = "lock"


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Names of what differs between two jobs."""
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
