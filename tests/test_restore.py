"""The main job, through its real entry points, on the tiny preset."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.data.sample import sample_clip
from ipfvr.degradation.pipeline import degrade, sample_parameters
from ipfvr.diffusion.long_video import plan_windows
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.film.stream import letterbox
from ipfvr.restoration.restorer import Restorer
from ipfvr.restore import main
from ipfvr.video.reader import VideoReader, read_frames
from ipfvr.video.writer import VideoWriter


def tiny(*overrides: str) -> Config:
    return load_config(None, ["preset=tiny", *overrides])


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 degraded frames of 16 x 16: two clips of 6 and one of 6 that overlaps more."""
    frames = degrade(sample_clip(14, 32), sample_parameters("light", 2, 32, 0))
    path = tmp_path_factory.mktemp("low") / "low.mp4"
    with VideoWriter(path, 16, 16, 25, crf=0) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def whole(low: Path) -> np.ndarray:
    output = low.with_name("whole.mp4")
    restore(Job(low, output, aligned=True), tiny())
    return read_frames(output)


def test_every_frame_comes_out_once_with_its_time(low: Path, whole: np.ndarray) -> None:
    assert whole.shape == (14, 32, 32, 3)
    times = [[f.time for f in VideoReader(p)] for p in (low, low.with_name("whole.mp4"))]
    assert times[0] == pytest.approx(times[1])


def test_the_same_command_gives_the_same_bytes(low: Path, whole: np.ndarray) -> None:
    output = low.with_name("again.mp4")
    restore(Job(low, output, aligned=True), tiny())
    assert output.read_bytes() == low.with_name("whole.mp4").read_bytes()


@pytest.mark.parametrize("border", [6, 10, 3])
def test_parts_are_what_the_whole_has(low: Path, border: int) -> None:
    """Wherever a video is cut for two processes, the network gives the frames that it gives at once."""
    config = tiny()
    restorer, frames = Restorer(config), read_frames(low)

    def run(part: tuple[int, int] | None) -> dict[int, np.ndarray]:
        windows = plan_windows([(0, 14)], config, part)
        return dict(restorer.restore_stream(enumerate(frames), windows, restorer.conditions()))

    at_once = run(None)
    for part in ((0, border), (border, 14)):
        for index, image in run(part).items():
            assert np.array_equal(image, at_once[index])


def test_the_command_line_restores_a_part(low: Path, whole: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    output = low.with_name("part.mp4")
    main([str(low), "--aligned", "--frames", "6:14", "--output", str(output), "preset=tiny"])
    assert "8 frames (8 restored)" in capsys.readouterr().out
    # Cut at a clip's border, a part's file holds the very frames of the whole file, compression included.
    assert np.array_equal(read_frames(output), whole[6:14])
    report = json.loads(output.with_suffix(".json").read_text())
    assert report["configuration"]["preset"] == "tiny"
    assert report["seed"] == 0
    assert report["frames"] == 8


def test_a_seed_changes_the_result(low: Path, whole: np.ndarray) -> None:
    output = low.with_name("seed.mp4")
    restore(Job(low, output, aligned=True), tiny("seed=1"))
    assert not np.array_equal(read_frames(output), whole)


def test_an_untrained_residual_denoiser_returns_its_input(low: Path) -> None:
    """A zero prediction at the noisiest step, one step: what comes out is the input, whatever the codec does to it."""
    config = tiny("sampler.residual_scale=0.2", "sampler.steps=1", "sampler.start_step=999")
    restorer = Restorer(config)
    frames = read_frames(low)[:4]
    from ipfvr.core.pixels import resize_frames

    restored = restorer.restore(frames, restorer.conditions())
    assert np.abs(restored.astype(int) - resize_frames(frames, 32)).max() <= 1


def test_a_denoiser_of_odd_sizes_restores_squares_of_any_size() -> None:
    """VEnhancer's takes latents of 8k-6 rows and 8k columns, which no square has: frames are padded and cut again."""
    for size in (40, 44):
        config = load_config(None, ["preset=tiny", "device=cpu", f"video.size={size}", "denoiser.odd_sizes=true"])
        frames = np.random.default_rng(0).integers(0, 256, (4, size // 2, size // 2, 3), dtype=np.uint8)
        restorer = Restorer(config)
        assert restorer.restore(frames, restorer.conditions()).shape == (4, size, size, 3)


def test_windows_do_not_cross_segments() -> None:
    config = tiny()
    windows = plan_windows([(2, 9), (9, 12), (20, 21)], config)
    kept = [i for w in windows for i in range(w.keep_start, w.stop)]
    assert kept == [*range(2, 12), 20]
    assert all(any(a <= w.start and w.stop <= b for a, b in [(2, 9), (9, 12), (20, 21)]) for w in windows)
    # A part needs the clips before it where these are blended into it.
    assert [w.stop for w in plan_windows([(2, 9)], config, (8, 9))] == [8, 9]
    assert [w.stop for w in plan_windows([(2, 9)], tiny("long_video.blending=none"), (8, 9))] == [9]
    assert [w.stop for w in plan_windows([(2, 9)], tiny("sampler.steps=1"), (8, 9))] == [9]


def test_letterbox_keeps_the_shape() -> None:
    square = letterbox(np.full((20, 40, 3), 200, np.uint8), 32)
    assert square.shape == (32, 32, 3)
    assert square[16].min() >= 199
    assert square[2].max() == 0


def write_video(path: Path, frames: np.ndarray) -> Path:
    with VideoWriter(path, frames.shape[2], frames.shape[1], 25, crf=4) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait that is there for 4 frames, gone for 4, and back for 4."""
    face = sample_clip(12, 256)
    face[4:8] = 90
    return write_video(tmp_path_factory.mktemp("scene") / "scene.mp4", face)


def test_frames_without_a_face_pass_through(scene: Path) -> None:
    output = scene.with_name("out.mp4")
    job = Job(scene, output, crop=True)
    report = restore(job, tiny("faces.detector=centerface", "faces.max_gap=1", "video.crf=0"))
    frames = read_frames(output)
    assert len(frames) == report["frames"] == 12
    assert report["restored"] == 8
    assert np.abs(frames[4:8].astype(int) - 90).max() <= 3


def test_a_reference_is_accepted_and_encoded(scene: Path, tmp_path: Path) -> None:
    from PIL import Image
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(tmp_path / "ref.png")
    job = Job(scene, tmp_path / "out.mp4", references=(tmp_path / "ref.png",))
    report = restore(job, tiny("faces.detector=centerface"))
    assert report["reference_tokens"] is None  # tiny has no adapter


def test_what_a_user_can_get_wrong(low: Path, scene: Path, tmp_path: Path) -> None:
    from PIL import Image

    nothing = write_video(tmp_path / "grey.mp4", np.full((3, 64, 96, 3), 120, np.uint8))
    Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(tmp_path / "grey.png")
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(low.read_bytes()[:700])
    out = tmp_path / "out.mp4"
    shipped = "faces.detector=centerface"
    cases = [
        (Job(tmp_path / "none.mp4", out), (), "none.mp4"),
        (Job(text, out), (), "text.mp4"),
        (Job(cut, out, aligned=True), (), "cut.mp4"),
        (Job(nothing, out, crop=True), (shipped,), "no face found"),
        (Job(nothing, out, aligned=True), (), "not a square"),
        (Job(low, low, aligned=True), (), "input itself"),
        (Job(low, tmp_path, aligned=True), (), "folder"),
        (Job(low, out, references=(tmp_path / "none.jpg",), aligned=True), (), "none.jpg"),
        (Job(low, out, references=(tmp_path / "grey.png",), aligned=True), (shipped,), "in the reference"),
        (Job(low, out, aligned=True), ("weights.denoiser=nowhere.safetensors",), "nowhere.safetensors"),
        (Job(low, out, aligned=True), ("weights.denoiser=mini/vae",), "vae.safetensors"),
        (Job(low, out, aligned=True), ("device=cuda:99",), "cuda:99"),
        (Job(low, out, aligned=True), ("sampler.solver=euler",), "euler"),
        (Job(low, out, aligned=True, part=(3, 90)), (), "3:90"),
    ]
    for job, overrides, says in cases:
        with pytest.raises(UserError, match=says):
            restore(job, tiny(*overrides))
        assert not out.exists()
        assert not list(tmp_path.glob(".*partial*"))


def test_a_refusal_comes_before_the_restorer_is_read(scene: Path, tmp_path: Path) -> None:
    """Who is not in the video is said before the packages that the restorer needs are imported, in a dry run too."""
    from PIL import Image
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(tmp_path / "ref.png")
    code = (
        "import sys, ipfvr.restore as verb\n"
        "from ipfvr.core.errors import UserError\n"
        "for extra in ([], ['--dry-run']):\n"
        "    try:\n        verb.main([*sys.argv[1:], *extra])\n    except UserError as error:\n        print(error)\n"
        "print(sorted({'diffusers', 'transformers'} & set(sys.modules)))"
    )
    words = [str(scene), "--reference", str(tmp_path / "ref.png"), "--output", str(tmp_path / "out.mp4")]
    options = ["people.same=0.9999", "faces.detector=centerface"]
    done = subprocess.run([sys.executable, "-c", code, *words, *options], capture_output=True, text=True, check=True)
    *refusals, heavy = done.stdout.splitlines()
    assert len(refusals) == 2
    assert all("the bound is 0.9999" in line and "people.same=" in line for line in refusals)
    assert heavy == "[]"
