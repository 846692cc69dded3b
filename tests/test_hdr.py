"""HDR and wide gamuts come out as BT.709, with the colours that an ordinary screen shows of them."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from films import HalvesDetector
from videos import CLIPS

from ipfvr.restore import main
from ipfvr.video import hdr
from ipfvr.video.hdr import HLG, PQ, SDR, WHITE, Mapping, peak_of, to_bt709
from ipfvr.video.reader import VideoReader

INPUTS = CLIPS.parent / "inputs"
BT709, BT2020, P3 = 1, 9, 12
TRANSFERS = {SDR: 14, PQ: 16, HLG: 18}


def codes_of(image: np.ndarray, transfer: str, primaries: int) -> np.ndarray:
    """An ordinary picture as a film of another kind has it: white at 203 cd/m2 (BT.2408)."""
    light = (image / 255.0) ** 2.4 @ (np.linalg.inv(hdr._to_xyz(primaries)) @ hdr._to_xyz(BT709)).T
    light = light.clip(0)
    if transfer == SDR:
        return light ** (1 / 2.4)
    if transfer == PQ:
        return hdr._light_to_pq(light * WHITE)
    scene = light * WHITE / 1000
    brightness = (scene @ hdr._to_xyz(primaries)[1])[..., None].clip(1e-9)
    scene = scene * brightness ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log((12 * scene - b).clip(1e-9)) + c)


def colours(darkest: int = 10) -> np.ndarray:
    """Blocks of random colours, even for 4:2:0, none brighter than the curve leaves alone."""
    blocks = np.random.default_rng(0).integers(darkest, 180, (6, 8, 3))
    return np.repeat(np.repeat(blocks, 8, 0), 8, 1).astype(np.uint8)


def film(path: Path, codes: np.ndarray, transfer: str, primaries: int, named: bool = True, frames: int = 3) -> Path:
    """A 10-bit film of a still of R'G'B' codes (H, W, 3), with BT.2020's matrix, named or not."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *codes.shape[:2], "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries = TRANSFERS[transfer], primaries
        context.colorspace = 9 if named else 2
        for index in range(frames):
            whole = av.VideoFrame.from_ndarray((codes * 65535).round().astype(np.uint16), format="rgb48le")
            frame = whole.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.colorspace = context.colorspace
            frame.color_trc, frame.color_primaries = TRANSFERS[transfer], primaries
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize("primaries", [BT709, BT2020, P3])
@pytest.mark.parametrize("transfer", [PQ, HLG, SDR])
def test_an_ordinary_picture_comes_back(transfer: str, primaries: int) -> None:
    image = colours()
    back = to_bt709(codes_of(image, transfer, primaries), transfer, primaries) * 255
    assert np.abs(back - image).max() < 0.01


@pytest.mark.parametrize("peak", [WHITE, 400.0, 1000.0, 4000.0])
def test_light_only_grows_from_black_to_white(peak: float) -> None:
    codes = np.linspace(0, float(hdr._light_to_pq(np.array(peak))), 500)[:, None].repeat(3, 1)
    grey = to_bt709(codes, PQ, BT2020, peak)
    assert np.ptp(grey, axis=1).max() < 1e-6
    assert grey[0].max() < 0.01
    assert grey[-1].min() == pytest.approx(1)
    assert (np.diff(grey[:, 0]) >= 0).all()


def test_known_points_of_the_standards() -> None:
    assert float(hdr._light_to_pq(np.array(100.0))) == pytest.approx(0.508, abs=1e-3)
    assert float(hdr._light_to_pq(np.array(10_000.0))) == pytest.approx(1)
    assert hdr._hlg_to_light(np.full((1, 3), 0.75), BT2020)[0] == pytest.approx([203] * 3, abs=0.5)
    assert hdr._hlg_to_light(np.ones((1, 3)), BT2020)[0] == pytest.approx([1000] * 3, rel=1e-3)
    # BT.2087: BT.2020's white is BT.709's, and its linear matrix.
    matrix = np.linalg.inv(hdr._to_xyz(BT709)) @ hdr._to_xyz(BT2020)
    assert matrix[0] == pytest.approx([1.6605, -0.5876, -0.0728], abs=1e-3)
    assert matrix.sum(1) == pytest.approx([1, 1, 1])


def test_colours_beyond_the_border_keep_their_luminance() -> None:
    codes = np.random.default_rng(1).random((500, 3)) ** 0.5
    light = codes**2.4 @ (np.linalg.inv(hdr._to_xyz(BT709)) @ hdr._to_xyz(BT2020)).T
    assert ((light < 0) | (light > 1)).any(1).mean() > 0.05
    shown = to_bt709(codes, SDR, BT2020) ** 2.4
    assert shown @ hdr._to_xyz(BT709)[1] == pytest.approx(light @ hdr._to_xyz(BT709)[1], abs=1e-4)


def test_the_brightest_pixel_is_what_the_file_says() -> None:
    class Item(bytes):
        type: SimpleNamespace

    def frame(**data: bytes) -> SimpleNamespace:
        items = []
        for name, content in data.items():
            items.append(Item(content))
            items[-1].type = SimpleNamespace(name=name)
        return SimpleNamespace(side_data=items)

    screen = struct.pack("=22i", *[0] * 16, 1, 10_000, 40_000_000, 10_000, 0, 1)
    assert peak_of(frame()) == 1000
    assert peak_of(frame(CONTENT_LIGHT_LEVEL=struct.pack("=II", 1500, 300))) == 1500
    assert peak_of(frame(MASTERING_DISPLAY_METADATA=screen)) == 4000
    assert peak_of(frame(CONTENT_LIGHT_LEVEL=struct.pack("=II", 0, 0), MASTERING_DISPLAY_METADATA=screen)) == 4000
    assert peak_of(frame(CONTENT_LIGHT_LEVEL=struct.pack("=II", 20, 10))) == WHITE


# ---------------------------------------------------------------- films


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("transfer", [PQ, HLG, SDR])
def test_a_film_is_read_as_bt709(tmp_path: Path, transfer: str, named: bool) -> None:
    image = colours(60)
    reader = VideoReader(film(tmp_path / "a.mp4", codes_of(image, transfer, BT2020), transfer, BT2020, named))
    assert reader.notes
    assert "BT.2020: mapped to BT.709" in reader.notes[0]
    for frame in reader:
        inner = np.abs(frame.image.astype(int) - image).reshape(6, 8, 8, 8, 3)[:, 2:6, :, 2:6]
        assert inner.mean() < 1.5
        assert np.quantile(inner, 0.99) < 5


def test_the_cube_may_lie_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "with: colon, 'quote' and \\ more"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    hdr._cube_file.cache_clear()
    reader = VideoReader(film(tmp_path / "a.mp4", codes_of(colours(), PQ, BT2020), PQ, BT2020))
    assert len(list(reader)) == 3
    hdr._cube_file.cache_clear()
    assert not list(folder.iterdir())


def test_ordinary_films_are_left_alone(tmp_path: Path) -> None:
    frame = av.VideoFrame(16, 16, "yuv420p")
    assert not Mapping(frame).name
    for primaries in (1, 2, 5, 6):
        frame.color_primaries, frame.color_trc = primaries, 1
        assert not Mapping(frame).name


@pytest.mark.skipif(not INPUTS.is_dir(), reason="the inputs of ../shared/data are not here")
def test_a_real_hdr_film_comes_out_as_its_tags_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfvr.film.analysis.make_detector", lambda config: HalvesDetector())
    source, out = INPUTS / "hdr10_pq.mp4", tmp_path / "out.mp4"
    main([str(source), "--output", str(out), "--no-page", "--strength", "0", "preset=tiny", "prompt.describe=false"])
    notes = json.loads(out.with_suffix(".json").read_text())["notes"]
    assert any("PQ, BT.2020: mapped to BT.709" in note for note in notes)
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_trc, frame.color_primaries) == (1, 1, 1)
    before, after = next(iter(VideoReader(source))).image, next(iter(VideoReader(out))).image
    assert np.abs(before.astype(int) - after).mean() < 4
    with av.open(str(source)) as container:
        raw = next(container.decode(video=0)).to_ndarray(format="rgb48le").astype(float) / 65535
    assert np.abs(to_bt709(raw, PQ, BT2020) * 255 - before).mean() < 4
