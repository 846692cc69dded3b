"""Killed and taken up again, a job ends in the bytes of the undisturbed one; many jobs do not disturb each other."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from films import HalvesDetector, shots, write_film
from people import write_video

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.options import Config, FacesConfig
from ipfvr.diffusion.conditions import Conditions
from ipfvr.faces.detect import Face
from ipfvr.faces.track import scan_video
from ipfvr.film import write as writing
from ipfvr.film.batch import REPORT, restore_many
from ipfvr.film.job import Job
from ipfvr.film.parts import Parts
from ipfvr.film.run import restore
from ipfvr.models.networks import Networks
from ipfvr.restoration.restorer import Restorer
from ipfvr.restore import main
from ipfvr.video.reader import VideoReader
from ipfvr.video.writer import VideoWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import kills


def tiny(*overrides: str) -> Config:
    return load_config(None, ["preset=tiny", "prompt.describe=false", *overrides])


@pytest.fixture(autouse=True)
def faces_that_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfvr.film.analysis.make_detector", lambda config: HalvesDetector())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two faces whose clips begin at different frames, then one, then none."""
    images = shots(("red", "dark", 5), ("red", "blue", 9), ("dark", "blue", 7), ("dark", "dark", 5))
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", images)


def test_killed_at_any_frame_it_ends_in_the_same_bytes(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no clip that lies in finished parts is restored again, though every clip depends on those before it."""
    config = kills.lively(tiny(), tmp_path / "denoiser.safetensors")
    whole = tmp_path / "whole.mp4"
    restored: list[int] = []
    restore_clip, write = Restorer.restore, VideoWriter.write

    def counted(self: Restorer, low: np.ndarray, person: Conditions, frames: range, **rest: object) -> np.ndarray:
        restored.append(frames.stop)
        return restore_clip(self, low, person, frames, **rest)

    monkeypatch.setattr(Restorer, "restore", counted)
    clips = restore(Job(film, whole), config)["clips"]
    assert len(restored) == clips
    out, rng, left = tmp_path / "out.mp4", np.random.default_rng(0), [0]

    def fail(self: VideoWriter, *args: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError
        write(self, *args)

    monkeypatch.setattr(VideoWriter, "write", fail)
    killed, folder = 0, tmp_path / ".out.mp4.parts"
    while not out.exists():
        left[0] = int(rng.integers(4, 11))
        finished = max(folder.glob("0*.json"), default=None)
        begin = int(finished.stem) + len(json.loads(finished.read_text())) if finished else 0
        restored.clear()
        try:
            report = restore(Job(film, out), config)
        except MemoryError:
            killed += 1
            assert not out.exists()
            assert list(folder.glob("*.mp4"))
            assert len(list(folder.glob("*.safetensors"))) <= 2  # two faces
        assert all(stop > begin for stop in restored)
    assert killed >= 2
    assert report["resumed_at"]
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_killed_by_the_system_it_ends_in_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--kills", "2", "--frames", "30", "--seed", "1", "--output", str(tmp_path), "faces.detector=centerface"]
    assert kills.main(command) == 0
    assert "2 kills" in capsys.readouterr().out


def test_another_job_discards_what_was_there_and_says_so(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mp4"
    join = writing.join
    monkeypatch.setattr(writing, "join", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left on device; make room"):
        restore(Job(film, out), tiny())
    monkeypatch.setattr(writing, "join", join)
    report = restore(Job(film, out), tiny("seed=1"))
    assert report["resumed_at"] is None
    assert any("discarded" in note and "configuration.seed" in note for note in report["notes"])


def test_two_processes_do_not_write_one_output(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "a.mp4", {})
    with pytest.raises(UserError, match="another process"):
        Parts(tmp_path / "a.mp4", {})
    parts.close(finished=False)
    Parts(tmp_path / "a.mp4", {}).close(finished=True)


def test_a_scan_comes_back_as_it_was(film: Path, tmp_path: Path) -> None:
    def embed(image: np.ndarray, face: Face) -> np.ndarray:
        return image[:2, 0, 0].astype(np.float32)

    scan = scan_video(VideoReader(film), HalvesDetector(), FacesConfig(recognise_every=2), embed)
    parts = Parts(tmp_path / "a.mp4", {})
    parts.save_scan(scan)
    again = parts.scan()
    parts.close(finished=True)
    assert (again.frames, again.cuts, again.damaged) == (scan.frames, scan.cuts, scan.damaged)
    assert len(again.tracks) == len(scan.tracks) == 4
    for a, b in zip(again.tracks, scan.tracks, strict=True):
        assert (a.start, a.area, a.weight) == (b.start, b.area, b.weight)
        for name in ("landmarks", "detected", "vectors"):
            assert np.array_equal(getattr(a, name), getattr(b, name))


def test_ctrl_c_is_one_line_and_130(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(VideoWriter, "write", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert run_verb(main, [str(film), "--output", str(tmp_path / "out.mp4"), "preset=tiny"]) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert "the same command continues" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


# ---------------------------------------------------------------- many videos


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / REPORT).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_failed_file_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b", "c"):
        write_video(tmp_path / "in" / f"{name}.mp4", np.full((3, 16, 16, 3), 90, np.uint8))
    (tmp_path / "in" / "a.mp4").write_text("not a video")
    (tmp_path / "list.txt").write_text("# a remark\nin/a.mp4\nin/b.mp4\n\nin/c.mp4\n")
    for source in ("in", "list.txt"):
        command = [str(tmp_path / source), "--output", str(tmp_path / "out"), "--aligned", "preset=tiny"]
        assert run_verb(main, command) == 2
        assert "1 of 3 files failed" in capsys.readouterr().err
        status = ["done" if source == "in" else "kept"] * 2
        assert [row["status"] for row in rows(tmp_path / "out")] == ["failed", *status]
    assert "a.mp4" in rows(tmp_path / "out")[0]["error"]
    assert [row["frames"] for row in rows(tmp_path / "out")] == ["0", "3", "3"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.mp4")) == ["b.mp4", "c.mp4"]
    assert run_verb(main, [str(tmp_path / "in"), "--output", str(tmp_path / "out.mp4"), "preset=tiny"]) == 2
    assert "must be a folder" in capsys.readouterr().err


def test_the_films_of_a_folder_share_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are loaded once, and change no film's bytes."""
    loaded, make = [], Networks.__init__
    monkeypatch.setattr(Networks, "__init__", lambda self, *args: (loaded.append(self), make(self, *args))[1])
    for number in range(3):
        write_video(tmp_path / "in" / f"{number}.mp4", np.full((3, 16, 16, 3), 60 + 30 * number, np.uint8))
    config = tiny("device=cpu", "seed=5")
    restore_many(Job(tmp_path / "in", tmp_path / "out", aligned=True), config)
    assert len(loaded) == 1
    restore_many(Job(tmp_path / "in", tmp_path / "other", aligned=True), tiny("device=cpu", "seed=6"))
    assert len(loaded) == 2, "another configuration has its own"
    restore(Job(tmp_path / "in" / "2.mp4", tmp_path / "alone.mp4", aligned=True), config)
    assert len(loaded) == 3
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "out" / "2.mp4").read_bytes()


def test_two_processes_share_the_videos(tmp_path: Path) -> None:
    """Together they give what one process gives."""
    for number in range(3):
        write_video(tmp_path / "in" / f"{number}.mp4", np.full((3, 16, 16, 3), 60 + 30 * number, np.uint8))
    command = [sys.executable, "-m", "ipfvr.restore", str(tmp_path / "in"), "--aligned", "preset=tiny", "device=cpu"]
    run = subprocess.run(
        [*command, "--output", str(tmp_path / "two"), "--devices", "2"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert [row["status"] for row in rows(tmp_path / "two")] == ["done"] * 3
    assert run.stdout.count("done in") == 3
    for number in range(3):
        alone = tmp_path / f"{number}.mp4"
        restore(Job(tmp_path / "in" / f"{number}.mp4", alone, aligned=True), tiny("device=cpu"))
        assert alone.read_bytes() == (tmp_path / "two" / f"{number}.mp4").read_bytes()
