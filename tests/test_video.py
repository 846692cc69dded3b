"""Video in and out: what is written is what is read, whatever the codec, the times, the turn and the sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ipfvr.errors import UserError
from ipfvr.video.clips import clip_windows
from ipfvr.video.reader import VideoReader, read_frames, read_image
from ipfvr.video.writer import VideoWriter

CLIPS = Path(__file__).parents[2] / "shared" / "data" / "clips"
MATRICES = {"bt709": 1, "bt601": 6}
# PyAV's numbers for swscale's matrices, which are not those of the stream.
SWS_MATRICES = {"bt709": 1, "bt601": 5}


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Four flat colours and a grey band whose level tells the frame's number; blocks are even, as 4:2:0 wants."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 4 * 2, : width // 4 * 2] = (200, 40, 60)
    image[: height // 4 * 2, width // 4 * 2 :] = (40, 170, 70)
    image[height // 4 * 2 :, : width // 4 * 2] = (50, 70, 190)
    image[height // 4 * 2 :, width // 4 * 2 :] = (230, 220, 120)
    image[16:32] = 20 + 5 * index
    return image


def number_of(image: np.ndarray) -> int:
    """The number that :func:`picture` put into a picture."""
    return round((float(image[20:28].mean()) - 20) / 5)


def encode(
    path: Path,
    images: list[np.ndarray],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: tuple[int, bool] | None = None,
    colour: tuple[str, int] | None = None,
    sound: str | None = None,
    sound_rate: int = 48_000,
) -> Path:
    """A test video made by PyAV alone, without this project's writer."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {"crf": "5", "preset": "veryfast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = stream.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        if colour is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = MATRICES[colour[0]], colour[1]
        track = container.add_stream(sound, rate=sound_rate) if sound else None
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image)
            if colour is not None:
                frame = frame.reformat(
                    format=pixel_format, dst_colorspace=SWS_MATRICES[colour[0]], dst_color_range=colour[1]
                )
                frame.colorspace = MATRICES[colour[0]]
            frame.pts, frame.time_base = (times[index] if times else index), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            samples = int(len(images) / 25 * sound_rate)
            wave = (8000 * np.sin(np.arange(samples) / 20)).astype(np.int16)
            audio = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            audio.sample_rate, audio.pts = sound_rate, 0
            container.mux(track.encode(audio))
            container.mux(track.encode(None))
    return path


def write(
    path: Path,
    images: list[np.ndarray],
    times: list[int] | None = None,
    sound_from: Path | None = None,
    then: BaseException | None = None,
) -> None:
    """Write pictures with this project's writer, and raise ``then`` before it is closed."""
    with VideoWriter(path, 64, 48, 25, sound_from=sound_from) as writer:
        for index, image in enumerate(images):
            writer.write(image, times[index] if times else None)
        if then is not None:
            raise then


def sound_packets(path: Path) -> list[tuple[bytes, Fraction]]:
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.audio) if p.size]
        return [(bytes(p), p.pts * p.time_base) for p in packets]


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


# ---------------------------------------------------------------- writing


def test_write_read_keeps_colours_and_tags_them(tmp_path):
    """Five generations are not darker, redder or flatter than the first, and one at the default crf hardly is."""
    rng = np.random.default_rng(0)
    colours = rng.integers(50, 206, (6, 8, 3), dtype=np.uint8)
    first = colours.repeat(32, axis=0).repeat(32, axis=1)
    for crf, generations, bound in ((0, 5, 0.3), (17, 1, 0.5)):
        image = first
        for _ in range(generations):
            with VideoWriter(tmp_path / "a.mp4", 256, 192, 25, crf=crf) as writer:
                writer.write(image)
            image = read_frames(tmp_path / "a.mp4")[0]
        # The middle of each patch, where 4:2:0 mixes no colours.
        middles = image.reshape(6, 32, 8, 32, 3)[:, 12:20, :, 12:20].mean((1, 3))
        error = middles - colours
        assert np.abs(error.mean((0, 1))).max() < bound
        assert np.abs(error).max() < 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("size", [(64, 48), (63, 48), (64, 47), (63, 47)])
def test_sizes_come_back(tmp_path, size, suffix):
    width, height = size
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, width, height, 30, crf=10) as writer:
        for index in range(8):
            writer.write(picture(index)[:height, :width])
    reader = VideoReader(path)
    assert (reader.info.width, reader.info.height, len(reader)) == (width, height, 8)
    frames = [f.image for f in reader]
    assert all(f.shape == (height, width, 3) for f in frames)
    assert [number_of(f) for f in frames] == list(range(8))


@pytest.mark.parametrize(
    ("rate", "time_base", "times"),
    [
        (Fraction(25), None, None),
        (Fraction(30000, 1001), Fraction(1001, 30000), list(range(12))),
        (Fraction(30000, 1001), Fraction(1, 90000), [3003 * i for i in range(12)]),
        (Fraction(25), Fraction(1, 600), [0, 10, 11, 12, 40, 90, 91, 300, 301, 302, 500, 1200]),
    ],
)
def test_times_come_back_exactly(tmp_path, rate, time_base, times):
    with VideoWriter(tmp_path / "a.mp4", 64, 48, rate, time_base) as writer:
        for index in range(12):
            writer.write(picture(index), None if times is None else times[index])
    reader = VideoReader(tmp_path / "a.mp4")
    wanted = [t * (time_base or 1 / rate) for t in (times or range(12))]
    assert [f.pts * reader.info.time_base for f in reader] == wanted
    assert reader.info.duration == pytest.approx(float(wanted[-1] + 1 / rate), abs=1e-3)


def test_the_same_frames_give_the_same_bytes_whatever_their_times(tmp_path):
    """Two writers agree byte for byte, and a variable frame rate changes times, not pictures."""
    for name, times in {"a.mp4": range(30), "b.mp4": range(30), "c.mp4": [i * i for i in range(30)]}.items():
        with VideoWriter(tmp_path / name, 64, 48, 25) as writer:
            for index, time in enumerate(times):
                writer.write(picture(index), time)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert np.array_equal(read_frames(tmp_path / "a.mp4"), read_frames(tmp_path / "c.mp4"))


def test_encoding_again_in_the_same_process_gives_the_same_bytes(tmp_path):
    """Not so with x264's AVX-512 code, which reads unwritten memory: small noisy clips show it within a few tries."""
    rng = np.random.default_rng(0)
    noisy = [
        (picture(i).astype(int) + rng.integers(-8, 9, (48, 64, 3))).clip(0, 255).astype(np.uint8) for i in range(40)
    ]
    seen = set()
    for _ in range(12):
        with VideoWriter(tmp_path / "a.mp4", 64, 48, 25, crf=26) as writer:
            for image in noisy:
                writer.write(image)
        seen.add((tmp_path / "a.mp4").read_bytes())
    assert len(seen) == 1


def test_crf_chooses_the_size(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (10, 48, 64, 3), dtype=np.uint8)
    sizes = []
    for crf in (10, 25, 40):
        with VideoWriter(tmp_path / "a.mp4", 64, 48, 25, crf=crf) as writer:
            for image in noise:
                writer.write(image)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize(("codec", "name"), [("aac", "a.mp4"), ("libopus", "a.webm"), ("libmp3lame", "a.mkv")])
def test_sound_is_copied_untouched(tmp_path, codec, name):
    options = {"crf": "30", "b": "0", "cpu-used": "8"} if name.endswith("webm") else None
    source = encode(
        tmp_path / name,
        [picture(i) for i in range(25)],
        "libvpx-vp9" if name.endswith("webm") else "libx264",
        options=options,
        sound=codec,
    )
    reader = VideoReader(source)
    assert reader.info.has_audio
    with VideoWriter(
        tmp_path / "out.mp4", 64, 48, reader.info.rate, reader.info.time_base, sound_from=source
    ) as writer:
        for frame in reader:
            writer.write(frame.image, frame.pts)
    assert writer.sound == "copied"
    before, after = sound_packets(source), sound_packets(tmp_path / "out.mp4")
    assert [data for data, _ in before] == [data for data, _ in after]
    shift = [float(b - a) for (_, a), (_, b) in zip(before, after, strict=True)]
    # Matroska starts opus and mp3 before zero and counts in milliseconds: pictures and sound move together.
    begin = next(iter(reader)).time - next(iter(VideoReader(tmp_path / "out.mp4"))).time
    assert max(shift) - min(shift) < 0.0011
    assert abs(begin + shift[0]) < 0.03
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_sound_is_left_out_when_the_length_does_not_allow(tmp_path):
    source = encode(tmp_path / "a.mp4", [picture(i) for i in range(25)], sound="aac")
    for part in (range(10), range(5, 25)):
        with VideoWriter(tmp_path / "out.mp4", 64, 48, 25, sound_from=source) as writer:
            for index in part:
                writer.write(picture(index), index)
        assert writer.sound.startswith("left out: the video")
        assert not VideoReader(tmp_path / "out.mp4").info.has_audio
    silent = encode(tmp_path / "b.mp4", [picture(0)] * 5)
    with VideoWriter(tmp_path / "out.mp4", 64, 48, 25, sound_from=silent) as writer:
        writer.write(picture(0))
    assert writer.sound == "none"


def test_sound_that_mp4_cannot_carry_is_said_before_the_work(tmp_path):
    source = encode(tmp_path / "a.mkv", [picture(i) for i in range(25)], sound="tta")
    with pytest.raises(UserError, match=r"cannot carry the tta sound .*out\.mkv"):
        VideoWriter(tmp_path / "out.mp4", 64, 48, 25, sound_from=source)
    with VideoWriter(tmp_path / "out.mkv", 64, 48, 25, sound_from=source) as writer:
        for index in range(25):
            writer.write(picture(index))
    assert writer.sound == "copied"


# ---------------------------------------------------------------- what users can get wrong


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    source = encode(tmp_path / "a.mp4", [picture(i) for i in range(25)], sound="aac")
    out = tmp_path / "out"
    for sound in (None, source):
        with pytest.raises(KeyboardInterrupt):
            write(out / "b.mp4", [picture(0)], sound_from=sound, then=KeyboardInterrupt())
        with pytest.raises(UserError, match="not a single frame"):
            write(out / "b.mp4", [], sound_from=sound)
        assert list(out.iterdir()) == []


def test_a_failed_writer_keeps_the_file_that_was_there(tmp_path):
    path = encode(tmp_path / "a.mp4", [picture(0)] * 3)
    before = path.read_bytes()
    with pytest.raises(UserError, match="frame 1 is"):
        write(path, [picture(0), picture(0)[:-2]])
    assert path.read_bytes() == before


def test_bad_outputs(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "a.mp4", tmp_path / "a.jpg", tmp_path / "a"):
        with pytest.raises(UserError, match="cannot write"):
            write(path, [picture(0)])
    with pytest.raises(UserError, match="not after"):
        write(tmp_path / "a.mp4", [picture(0)] * 2, times=[3, 3])


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
