"""Every pixel's colour and every odd side of a film are kept where 4:2:0 cannot keep them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from films import HalvesDetector, shots
from PIL import Image
from videos import CLIPS, encode

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.video.colour import has_full_colour, to_rgb, to_yuv
from ipfvr.video.reader import VideoReader

INPUTS = CLIPS.parent / "inputs"


@pytest.fixture(autouse=True)
def faces_that_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfvr.film.analysis.make_detector", lambda config: HalvesDetector())


def tiny(*overrides: str) -> Config:
    return load_config(None, ["preset=tiny", "prompt.describe=false", "faces.refine=false", *overrides])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-6, np.mean((a.astype(float) - b) ** 2)))


def dither() -> np.ndarray:
    """A palette's picture of a colour it lacks: two others in turn, of one brightness."""
    rows, columns = np.indices((48, 64))
    return np.where(((rows + columns) % 2 == 0)[..., None], (200, 120, 90), (120, 143, 100)).astype(np.uint8)


def test_a_dither_is_lost_in_half_the_colours_and_kept_in_all() -> None:
    image = dither()
    half, full = (to_rgb(to_yuv(image, name)) for name in ("yuv420p", "yuv444p"))
    assert psnr(half, image) < 25
    assert psnr(full, image) > 45
    grey = np.array([0.2126, 0.7152, 0.0722])
    assert psnr(half @ grey, image @ grey) > 40  # nothing but colour is lost


def test_what_formats_have_a_colour_for_each_pixel() -> None:
    full = ("yuv444p", "yuvj444p", "yuv444p10le", "gbrp", "rgb24", "bgra", "pal8")
    assert [name for name in full if not has_full_colour(name)] == []
    assert [
        name for name in ("yuv420p", "yuv422p10le", "nv12", "yuv410p", "gray", "gray10le") if has_full_colour(name)
    ] == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("size", [(48, 95), (47, 96), (47, 95)])
def test_an_odd_size_stays(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    images = [np.ascontiguousarray(image[: size[0], : size[1]]) for image in shots(("red", "blue", 3))]
    source, out = encode(tmp_path / "a.mkv", images, "ffv1", "bgr0", options={"level": "3"}), tmp_path / f"out{suffix}"
    report = restore(Job(source, out), tiny())
    assert f"{size[1]} x {size[0]} is odd" in report["notes"][0]
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.pix_fmt) == (*size, "yuv444p")
        assert not [key for key in container.metadata if "ipfvr" in key.lower()]
    # Where 4:2:0 is asked for, a pixel more is stored and noted.
    report = restore(Job(source, out), tiny("video.chroma=420"))
    assert not [note for note in report["notes"] if "4:4:4" in note]
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.pix_fmt) == (48, 96, "yuv420p")
    assert (VideoReader(out).info.height, VideoReader(out).info.width) == size


def test_the_sources_colours_decide(tmp_path: Path) -> None:
    images = shots(("red", "blue", 3))
    for source, options, expected in (
        (encode(tmp_path / "a.mp4", images), [], "yuv420p"),
        (encode(tmp_path / "b.mp4", images, pixel_format="yuv444p"), [], "yuv444p"),
        (encode(tmp_path / "b.mp4", images, pixel_format="yuv444p"), ["video.chroma=420"], "yuv420p"),
        (encode(tmp_path / "a.mp4", images), ["video.chroma=444"], "yuv444p"),
    ):
        report = restore(Job(source, tmp_path / "out.mp4"), tiny(*options))
        assert VideoReader(tmp_path / "out.mp4").info.pixel_format == expected
        assert bool([n for n in report["notes"] if "4:4:4" in n]) == (expected == "yuv444p" and not options)
    restore(Job(source, tmp_path / "out.mp4", scale=2), tiny())
    assert VideoReader(tmp_path / "out.mp4").info.pixel_format == "yuv420p"
    with pytest.raises(UserError, match="all are auto, 420, 444"):
        restore(Job(source, tmp_path / "out.mp4"), tiny("video.chroma=422"))


def test_a_gif_keeps_its_dither(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.concatenate([dither(), np.full((48, 64, 3), 8, np.uint8)], axis=1)) for _ in range(4)]
    frames[2] = Image.fromarray(np.asarray(frames[2])[::-1].copy())  # Pillow joins frames that are alike
    source, out = tmp_path / "a.gif", tmp_path / "out.mp4"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=60)
    restore(Job(source, out, strength=0.0), tiny())
    for before, after in zip(VideoReader(source), VideoReader(out), strict=True):
        assert psnr(after.image, before.image) > 33


@pytest.mark.skipif(not INPUTS.is_dir(), reason="the inputs of ../shared/data are not here")
def test_a_real_gif_keeps_its_dither(tmp_path: Path) -> None:
    source, out = INPUTS / "short.gif", tmp_path / "out.mp4"
    restore(Job(source, out, strength=0.0), tiny())
    values = [psnr(b.image, a.image) for a, b in zip(VideoReader(source), VideoReader(out), strict=True)]
    assert min(values) > 31  # 21 in 4:2:0
