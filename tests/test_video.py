"""Videos and pictures in, whatever the codec, the times, the turn and the damage; and clip windows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from videos import CLIPS, encode, number_of, picture, spoil

from ipfvr.core.errors import UserError
from ipfvr.video.clips import clip_windows
from ipfvr.video.reader import VideoReader, read_frames, read_image

# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name", "options"),
    [
        ("libx264", "yuv420p", "a.mp4", {"crf": "5"}),
        ("libx264", "yuv420p10le", "a.mkv", {"crf": "5"}),
        ("libx265", "yuv420p", "a.mp4", {"x265-params": "crf=5:log-level=none:pools=1"}),
        ("libx265", "yuv420p10le", "a.mp4", {"x265-params": "crf=5:log-level=none:pools=1"}),
        ("libvpx-vp9", "yuv420p", "a.webm", {"crf": "10", "b": "0", "cpu-used": "8", "auto-alt-ref": "1"}),
        ("libsvtav1", "yuv420p", "a.mp4", {"crf": "15", "preset": "12"}),
        ("libsvtav1", "yuv420p10le", "a.webm", {"crf": "15", "preset": "12"}),
        ("libx264", "yuv420p", "a.ts", {"crf": "5"}),
        ("mpeg4", "yuv420p", "a.avi", {"b": "8M"}),
    ],
)
def test_every_frame_is_read_once_and_in_order(tmp_path, monkeypatch, codec, pixel_format, name, options):
    monkeypatch.setenv("SVT_LOG", "0")
    path = encode(tmp_path / name, [picture(i, 96, 128) for i in range(30)], codec, pixel_format, options=options)
    reader = VideoReader(path)
    info = reader.info
    assert (info.width, info.height, info.frames, info.has_audio) == (128, 96, 30, False)
    assert info.bit_depth == (10 if "10" in pixel_format else 8)
    assert info.duration == pytest.approx(30 / 25, abs=0.002)
    frames = list(reader)
    assert [number_of(f.image) for f in frames] == list(range(30))
    assert [f.index for f in frames] == list(range(30))
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(30)], abs=0.0011)
    for frame in (frames[0], frames[-1]):
        assert np.abs(frame.image[4:12, 4:28].astype(int).mean((0, 1)) - (200, 40, 60)).max() < 8


def test_a_reader_starts_anew_and_reads_parts(tmp_path):
    path = encode(tmp_path / "a.mp4", [picture(i) for i in range(20)])
    reader = VideoReader(path)
    assert [f.pts for f in reader] == [f.pts for f in reader]
    assert [number_of(f.image) for f in reader.frames(7, 12)] == [7, 8, 9, 10, 11]
    assert [number_of(image) for image in read_frames(path, 18)] == [18, 19]
    with pytest.raises(UserError, match="20 frames"):
        read_frames(path, 20)


def test_reading_is_lazy(tmp_path):
    path = encode(tmp_path / "a.mp4", [picture(i) for i in range(40)])
    frames = iter(VideoReader(path))
    assert number_of(next(frames).image) == 0
    frames.close()


def test_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 40, 50, 130, 131, 400, 433, 466, 500, 1500]
    path = encode(tmp_path / "a.mkv", [picture(i) for i in range(10)], times=times, time_base=Fraction(1, 1000))
    assert [round(f.time * 1000) for f in VideoReader(path)] == times


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_what_the_display_matrix_says(tmp_path, degrees, mirrored):
    """FFmpeg's matrix turns counter-clockwise, then mirrors left and right."""
    path = encode(tmp_path / "a.mp4", [picture(0)] * 3, rotation=(degrees, mirrored))
    reader = VideoReader(path)
    image = next(iter(reader)).image
    expected = np.rot90(picture(0), degrees // 90)
    if mirrored:
        expected = expected[:, ::-1]
    assert (reader.info.height, reader.info.width) == image.shape[:2] == expected.shape[:2]
    for corner in [(4, 4), (4, -5), (-5, 4), (-5, -5)]:
        assert np.abs(image[corner].astype(int) - expected[corner]).max() < 16
    if not mirrored:
        assert reader.info.rotation == degrees


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
def test_matrix_and_range_of_the_stream_are_respected(tmp_path, matrix, full_range):
    path = encode(tmp_path / "a.mp4", [picture(6)] * 2, colour=(matrix, 2 if full_range else 1), options={"crf": "1"})
    image = next(iter(VideoReader(path))).image.astype(int)
    for (y, x), colour in {(8, 8): (200, 40, 60), (8, 56): (40, 170, 70), (40, 8): (50, 70, 190)}.items():
        assert np.abs(image[y - 2 : y + 2, x - 4 : x + 4].mean((0, 1)) - colour).max() < 3.5


def test_bad_inputs(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("not a video\n" * 100)
    as_mp4 = tmp_path / "text.mp4"
    as_mp4.write_text("not a video\n" * 100)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        track = container.add_stream("aac", rate=48_000)
        audio = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        audio.sample_rate = 48_000
        container.mux(track.encode(audio))
        container.mux(track.encode(None))
    for path, message in {
        tmp_path / "missing.mp4": "no video file",
        text: "not a video",
        as_mp4: "not a video",
        empty: "is empty",
        sound: "sound but no video",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            VideoReader(path)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "movflags", "message"),
    [
        ("a.mp4", "", "cut short"),  # the index is at the end: there is none left
        ("a.mp4", "faststart", r"cut short: frame \d+ is the first of 60"),
        ("a.mkv", "", "cut short"),
    ],
)
def test_a_file_that_was_cut_short_is_told_at_once(tmp_path, name, movflags, message):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(60)]
    path = encode(tmp_path / name, images, container_options={"movflags": movflags} if movflags else None)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(UserError, match=message):
        VideoReader(path)


def test_damage_in_the_middle_names_the_frame(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(60)]
    path = encode(tmp_path / "a.mp4", images, options={"crf": "20", "bf": "0", "threads": "1"})
    with av.open(str(path)) as container:
        entry = container.streams.video[0].index_entries[40]
        position, size = entry.pos, entry.size
    content = bytearray(path.read_bytes())
    content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    read: list[int] = []
    with pytest.raises(UserError, match=r"frame \d+ of 60 cannot be decoded") as caught:
        read.extend(frame.index for frame in VideoReader(path))
    assert f"frame {len(read)} of" in str(caught.value)
    assert 20 <= len(read) <= 40


@pytest.mark.parametrize(
    ("packets", "first", "lost"), [([14], 0, [14]), ([14, 15, 16], 0, [14, 15, 16]), ([10], 0, [10]), ([0], 10, [])]
)
def test_a_forgiving_reader_repeats_what_cannot_be_decoded(tmp_path, packets, first, lost):
    """A key frame every ten frames; what hangs on one is gone with it, what does not has its own time and picture."""
    options = {"crf": "5", "g": "10", "bf": "0", "x264-params": "scenecut=0"}
    path = spoil(encode(tmp_path / "a.mp4", [picture(i) for i in range(30)], options=options), packets)
    reader = VideoReader(path, forgiving=True)
    frames = list(reader)
    assert [frame.index for frame in frames] == list(range(len(reader)))
    assert [round(frame.time * 25) for frame in frames] == list(range(first, 30))
    damaged = [round(frame.time * 25) for frame in frames if frame.damaged]
    assert set(lost) <= set(damaged)
    assert reader.damaged == {frame.index for frame in frames if frame.damaged}
    for frame in frames:
        number = round(frame.time * 25)
        if not frame.damaged and number not in range(packets[0], packets[0] // 10 * 10 + 10):
            assert number_of(frame.image) == number
    if lost:
        assert number_of(frames[lost[0]].image) == lost[0] - 1
        assert reader.time_of(lost[0]) == lost[0] / 25
    assert [frame.index for frame in reader.frames(12, 20)] == list(range(12, min(20, len(reader))))


def test_nothing_that_can_be_decoded_is_an_error(tmp_path):
    path = encode(tmp_path / "a.mp4", [picture(i) for i in range(8)])
    with pytest.raises(UserError, match="without a single frame that can be decoded"):
        VideoReader(spoil(path, list(range(8))), forgiving=True)


def test_pictures_are_turned_as_their_exif_says(tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    image[:10, :15] = 255
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    # APP1 with one EXIF entry: orientation 6, "turn by 90 degrees clockwise to show".
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    turned = tmp_path / "a.jpg"
    turned.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    shown = read_image(turned)
    assert shown.shape == (30, 20, 3)
    assert np.abs(shown.astype(int) - np.rot90(image, -1)).mean() < 8
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 5, 3), (10, 20, 30), np.uint8))
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [30, 20, 10]
    for path, message in {tmp_path / "no.png": "no picture", Path(__file__): "not a picture"}.items():
        with pytest.raises(UserError, match=message):
            read_image(path)


# ---------------------------------------------------------------- clips


@pytest.mark.parametrize(("length", "overlap"), [(24, 8), (8, 0), (8, 7), (1, 0)])
def test_windows_keep_every_frame_once_and_are_whole(length, overlap):
    for frames in range(100):
        windows = clip_windows(frames, length, overlap)
        assert [i for w in windows for i in range(w.keep_start, w.stop)] == list(range(frames))
        for index, window in enumerate(windows):
            assert window.stop - window.start == min(length, frames)
            assert 0 <= window.start <= window.keep_start < window.stop <= frames
            if 0 < index < len(windows) - 1:
                assert window.keep_start - window.start == overlap
            elif index:
                assert window.keep_start - window.start >= overlap
    with pytest.raises(UserError, match="overlap"):
        clip_windows(10, length, length)


# ---------------------------------------------------------------- real files


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips of ../shared/data are not here")
@pytest.mark.parametrize("name", ["id05/id05_c01.mp4", "id06/id06_c01.mp4"])
def test_real_clips_have_the_frames_that_decoding_finds(name):
    reader = VideoReader(CLIPS / name)
    with av.open(str(CLIPS / name)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
        assert len(reader) == len(times)
        first = next(iter(reader))
        assert first.image.shape == (reader.info.height, reader.info.width, 3)
        assert reader.info.duration == pytest.approx(
            float((times[-1] - times[0]) * reader.info.time_base + 1 / reader.info.rate), rel=1e-3
        )
