"""Videos out: what is written is what is read, whatever the times, the size and the sound."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from videos import encode, number_of, picture, sound_packets, write

from ipfvr.core.errors import UserError
from ipfvr.video.reader import VideoReader, read_frames
from ipfvr.video.writer import VideoWriter

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


def test_after_a_restart_frames_are_coded_as_in_a_file_of_their_own(tmp_path):
    images = [picture(i) for i in range(14)]
    times = [3 * i + (i > 6) for i in range(14)]
    with VideoWriter(tmp_path / "whole.mp4", 64, 48, 25, Fraction(1, 75), crf=35) as writer:
        for index, (image, time) in enumerate(zip(images, times, strict=True)):
            if index in (0, 5, 9):
                writer.restart()
            writer.write(image, time)
    whole = read_frames(tmp_path / "whole.mp4")
    assert [
        f.pts * VideoReader(tmp_path / "whole.mp4").info.time_base for f in VideoReader(tmp_path / "whole.mp4")
    ] == [Fraction(t, 75) for t in times]
    for start, stop in ((0, 5), (5, 9), (9, 14)):
        with VideoWriter(tmp_path / "part.mp4", 64, 48, 25, crf=35) as writer:
            for image in images[start:stop]:
                writer.write(image)
        assert np.array_equal(read_frames(tmp_path / "part.mp4"), whole[start:stop])
