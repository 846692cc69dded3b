"""Whole films through the real entry points: what is touched, what is not, and who is who."""

from __future__ import annotations

import json
import resource
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from films import SHARE, SIDE, HalvesDetector, landscape, people_of, picture_of, shots, times_of, write_film
from people import ColourRecogniser
from videos import CLIPS, sound_packets, spoil

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.messages import show_messages
from ipfvr.core.options import Config
from ipfvr.faces.paste import blend_mask
from ipfvr.film.analysis import analyse, faceless_note
from ipfvr.film.estimate import describe_plan
from ipfvr.film.job import Job, Person
from ipfvr.film.people import load_people
from ipfvr.film.run import restore
from ipfvr.film.stream import FilmStream, Frames
from ipfvr.restore import main
from ipfvr.video.reader import VideoReader

REFERENCES = CLIPS.parent / "references"


def tiny(*overrides: str) -> Config:
    return load_config(None, ["preset=tiny", "prompt.describe=false", "people.distinct=0.9", *overrides])


@pytest.fixture(autouse=True)
def parts_that_cost_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request) -> None:
    """Faces are halves of a frame, people are colours; not for real films."""
    if "real" in request.node.name:
        return
    recogniser = ColourRecogniser()
    recogniser.path = tmp_path / "recogniser"
    recogniser.path.write_text("weights")
    monkeypatch.setattr("ipfvr.film.analysis.make_detector", lambda config: HalvesDetector())
    monkeypatch.setattr("ipfvr.film.analysis.load_recogniser", lambda name: recogniser)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Red alone, red and blue, nobody, blue: cuts between, variable times, sound longer than the picture."""
    images = shots(("red", "dark", 9), ("red", "blue", 10), ("dark", "dark", 5), ("blue", "dark", 8))
    times = np.cumsum(np.random.default_rng(0).integers(15, 40, len(images)))
    return write_film(
        tmp_path / "film.mp4",
        images,
        times=(times - times[0]).tolist(),
        sound_seconds=3.0,
        metadata={"title": "Attic", "comment": "found"},
        chapters=[(0, "one"), (300, "two")],
    )


def composed(job: Job, config: Config) -> tuple[list[np.ndarray], list[np.ndarray], list]:
    """The source's frames, what would be encoded, and the plan's presences."""
    reader = VideoReader(job.source)
    analysis = analyse(job, config, reader, None)
    loaded = load_people(job, analysis.plan, config, reader, analysis.references, None)
    canvas = Frames(reader.info.width, reader.info.height, job.scale)
    stream = FilmStream(reader, analysis.plan, loaded.people, canvas, config, analysis.plan.start, lambda _: None)
    frames = [stream.next()[0] for _ in range(analysis.plan.start, analysis.plan.stop)]
    return [frame.image for frame in reader], frames, list(analysis.plan.presences)


def footprint(matrix: np.ndarray, size: int, shape: tuple[int, int]) -> np.ndarray:
    """Pixels of a frame whose neighbourhood has any of the mask: all others must not change."""
    mask = (blend_mask(size) > 0).astype(np.float32)
    back = cv2.warpAffine(mask, matrix, shape[::-1], flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    return cv2.dilate((back > 0).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def check_untouched(job: Job, config: Config) -> tuple[int, int]:
    """Numbers of frames that passed and of frames with faces, after every pixel outside the faces was compared."""
    before, after, presences = composed(job, config)
    assert len(before) == len(after)
    passed = touched = 0
    for index, (source, result) in enumerate(zip(before, after, strict=True)):
        face = np.zeros(source.shape[:2], dtype=bool)
        here = [presence for presence in presences if presence.start <= index < presence.stop]
        for presence in here:
            face |= footprint(presence.matrix(index, config.video.size), config.video.size, source.shape[:2])
        assert np.array_equal(source[~face], result[~face])
        assert bool(here) == (not np.array_equal(source, result))
        assert not face.all()
        passed, touched = passed + (not here), touched + bool(here)
    return passed, touched


def pictures(folder: Path) -> tuple[Person, Person]:
    return (
        Person("anna", (picture_of(folder / "anna.png", "red"),)),
        Person("ben", (picture_of(folder / "ben.png", "blue"),)),
    )


# ---------------------------------------------------------------- what is touched


def test_pixels_outside_of_the_faces_are_the_sources(film: Path, tmp_path: Path) -> None:
    anna, ben = pictures(tmp_path)
    config = tiny()
    assert check_untouched(Job(film, tmp_path / "a.mp4"), config) == (5, 27)
    assert check_untouched(Job(film, tmp_path / "a.mp4", references=ben.references), config) == (14, 18)
    assert check_untouched(Job(film, tmp_path / "a.mp4", people=(anna, ben)), config) == (5, 27)
    one = Job(film, tmp_path / "a.mp4", references=ben.references, others="restore")
    assert check_untouched(one, config) == (5, 27)


def test_a_film_keeps_times_sound_chapters_and_title(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    report = restore(Job(film, out), tiny())
    assert report["frames"] == 32
    assert report["restored"] == 27
    assert times_of(out) == times_of(film)
    assert sound_packets(out) == sound_packets(film)
    assert sum(1 for _ in sound_packets(out)) * 1024 / 48000 > 2.9  # longer than the picture, and whole
    with av.open(str(film)) as a, av.open(str(out)) as b:
        assert b.metadata["title"] == "Attic"
        assert b.metadata["comment"] == "found; AI-restored with ipfvr"
        shown = [[(c["start"] * c["time_base"], c["metadata"]["title"]) for c in x.chapters()] for x in (a, b)]
        assert shown[0] == shown[1]
        assert len(shown[0]) == 2
    assert not list(tmp_path.glob(".*"))
    assert json.loads(out.with_suffix(".json").read_text())["cuts"] == report["cuts"]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
@pytest.mark.parametrize("first", [7, 8, 17, 18, 22, 23, 30, 31])
def test_a_stretch_may_begin_just_before_a_part(film: Path, tmp_path: Path, first: int, name: str) -> None:
    """A part of one or two frames needs no decoding ahead, the next one does; times of decoding still only grow."""
    out = tmp_path / name
    restore(Job(film, out, part=(first, 32)), tiny())
    before, after = times_of(film)[first:], times_of(out)
    # Matroska counts in milliseconds.
    assert [float(time - after[0]) for time in after] == pytest.approx(
        [float(t - before[0]) for t in before], abs=0.002
    )
    with av.open(str(out)) as container:
        decoded = [packet.dts for packet in container.demux(video=0) if packet.dts is not None]
    assert decoded == sorted(set(decoded))


def test_subtitles_are_copied_or_named(tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:00,500\nHello\n\n2\n00:00:00,600 --> 00:00:00,900\nthere\n\n")
    film = write_film(tmp_path / "a.mkv", shots(("red", "dark", 25)), words=words)
    report = restore(Job(film, tmp_path / "b.mkv"), tiny())
    assert report["left_out"] == []
    assert texts(tmp_path / "b.mkv") == texts(film) != []
    report = restore(Job(film, tmp_path / "b.mp4"), tiny())
    assert len(report["left_out"]) == 1
    assert "subtitle" in report["left_out"][0]
    assert sound_packets(tmp_path / "b.mp4") != []


def texts(path: Path) -> list[tuple[bytes, Fraction]]:
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.subtitles) if p.size]
        return [(bytes(p), p.pts * p.time_base) for p in packets]


@pytest.mark.parametrize("scale", [2, 4])
def test_an_enlarged_film_has_enlarged_frames(scale: int, tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", shots(("red", "dark", 7)), sound=False)
    before, after, presences = composed(Job(film, tmp_path / "b.mp4", scale=scale), tiny())
    size = (2 * SIDE * scale, SIDE * scale)
    for index, (source, result) in enumerate(zip(before, after, strict=True)):
        large = cv2.resize(source, size, interpolation=cv2.INTER_LANCZOS4)
        assert result.shape == large.shape
        assert np.array_equal(large[:, size[0] // 2 :], result[:, size[0] // 2 :])
        centre = presences[0].track.landmarks[index].mean(0) * scale
        changed = np.argwhere((large != result).any(-1))[:, ::-1].mean(0)
        assert np.abs(changed - centre).max() < 0.2 * SHARE * SIDE * scale


def test_one_frame_and_no_face(tmp_path: Path) -> None:
    one = write_film(tmp_path / "one.mp4", shots(("red", "dark", 1)), sound=False)
    report = restore(Job(one, tmp_path / "a.mp4"), tiny())
    assert (report["frames"], report["restored"], report["clips"]) == (1, 1, 1)
    none = write_film(tmp_path / "none.mp4", shots(("dark", "dark", 300)))
    report = restore(Job(none, tmp_path / "b.mp4"), tiny())
    assert (report["frames"], report["restored"], report["sound"]) == (300, 0, "copied")
    assert any("no face found" in note for note in report["notes"])
    assert times_of(tmp_path / "b.mp4") == times_of(none)


def test_frames_without_a_face_are_told(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every frame that no track covers, of a whole film and of a part of it; nothing where there is a face in each."""
    show_messages()
    for part, stretches, says in (
        (None, [[19, 24]], "5 of 32 frames have no face: 19-23"),
        ((0, 20), [[19, 20]], "1 of 20 frames has no face: 19"),
        ((0, 9), [], ""),
    ):
        out = tmp_path / f"{len(says)}.mp4"
        restore(Job(film, out, part=part), tiny())
        report, told = json.loads(out.with_suffix(".json").read_text()), capsys.readouterr().err
        assert report["faceless"] == stretches
        covered = {t for track in report["tracks"] for t in range(track["start"], track["stop"])}
        assert not covered & {t for start, stop in stretches for t in range(start, stop)}
        assert (says in told) if says else "no face" not in told
    many = faceless_note([(10 * n, 10 * n + 2) for n in range(30)], 300)
    assert many.startswith("60 of 300 frames have no face: 0-1, 10-11,")
    assert many.endswith("and 22 more stretches")


def test_a_damaged_film_goes_on_in_step(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_messages()
    times, sound = times_of(film), sound_packets(film)
    out = tmp_path / "out.mp4"
    report = restore(Job(spoil(film, [12, 13]), out), tiny())
    assert report["sound"] == "copied"
    assert times_of(out) == times
    assert sound_packets(out) == sound
    assert len(report["damaged_frames"]) >= 2
    first = float(times[report["damaged_frames"][0]])
    assert f"{len(report['damaged_frames'])} of 32 frames, at {first:.2f} s" in capsys.readouterr().err
    assert json.loads(out.with_suffix(".json").read_text())["damaged_frames"] == report["damaged_frames"]


# ---------------------------------------------------------------- who is who


def test_people_are_known_again_and_are_never_two_at_once(film: Path, tmp_path: Path) -> None:
    report = restore(Job(film, tmp_path / "a.mp4", people=pictures(tmp_path)), tiny())
    assert report["cuts"] == [9, 19, 24]
    found = [(t["who"], t["start"], t["stop"]) for t in report["tracks"]]
    assert sorted(found) == [("anna", 0, 9), ("anna", 9, 19), ("ben", 9, 19), ("ben", 24, 32)]
    assert report["people"]["ben"]["frames"] == 18
    twins = write_film(tmp_path / "twins.mp4", shots(("red", "red", 9)))
    report = restore(Job(twins, tmp_path / "b.mp4", people=pictures(tmp_path)[:1]), tiny())
    assert len(report["tracks"]) == 1


def test_the_only_face_is_taken_for_the_one_person_named_and_a_note_says_so(tmp_path: Path) -> None:
    alone = write_film(tmp_path / "alone.mp4", shots(("red", "dark", 9)))
    anna, ben = pictures(tmp_path)
    report = restore(Job(alone, tmp_path / "a.mp4", people=(anna,)), tiny("people.same=1.1", "people.alone=0.5"))
    assert report["people"]["anna"]["frames"] == 9
    assert any("the only face has a likeness of" in note and "to anna, below 1.1" in note for note in report["notes"])
    with pytest.raises(UserError, match="ben is not in the video: the only face has"):
        restore(Job(alone, tmp_path / "b.mp4", people=(ben,)), tiny("people.same=1.1", "people.alone=0.99"))


def test_who_is_not_there_and_who_is_named_twice(film: Path, tmp_path: Path) -> None:
    green = Person("cleo", (picture_of(tmp_path / "cleo.png", "green"),))
    again = Person("ann", (picture_of(tmp_path / "ann.png", "red"),))
    anna, _ = pictures(tmp_path)
    cases = [
        ((green,), r"cleo is not in the video: the most similar of 4 faces has a likeness of -?\d"),
        ((anna, again), "anna and ann look like one person"),
        ((Person("eve"),), "eve has no reference"),
    ]
    for people, says in cases:
        with pytest.raises(UserError, match=says):
            restore(Job(film, tmp_path / "a.mp4", people=people), tiny())
        assert not (tmp_path / "a.mp4").exists()
        assert not list(tmp_path.glob(".*"))  # a refusal leaves no hidden folder


def test_the_networks_are_loaded_once_however_many_people(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipfvr.models import networks

    made, make = [], networks.make_denoiser
    monkeypatch.setattr(networks, "make_denoiser", lambda *given: made.append(given) or make(*given))
    restore(Job(film, tmp_path / "a.mp4", people=pictures(tmp_path), others="restore"), tiny())
    assert len(made) == 1
    assert not list(tmp_path.glob(".*"))  # nor does a finished job


def test_the_command_line_names_people(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anna, ben = pictures(tmp_path)
    command = [str(film), "--output", str(tmp_path / "a.mp4"), "--reference", f"anna={anna.references[0]}"]
    main([*command, "--reference", f"ben={ben.references[0]}", "preset=tiny", "prompt.describe=false"])
    assert "32 frames (27 restored)" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "a.json").read_text())["people"]) == {"anna", "ben"}
    assert run_verb(main, [*command, "--lora", "ben=nowhere", "preset=tiny"]) == 2
    assert "ben has no reference" in capsys.readouterr().err


def test_a_dry_run_says_what_will_be_and_writes_nothing(film: Path, tmp_path: Path) -> None:
    anna, ben = pictures(tmp_path)
    before = sorted(tmp_path.iterdir())
    text = describe_plan(Job(film, tmp_path / "a.mp4", people=(anna, ben)), tiny())
    assert "anna: 19 frames" in text
    assert "ben: 18 frames" in text
    assert "cuts: 3 (frames 9, 19, 24)" in text
    assert "clips: 8 of up to 6 frames" in text  # 9 + 10 frames of anna, 10 + 8 of ben: two clips each
    assert "time: about" in text
    assert "memory: about" in text
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_one_line(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))  # no file may be larger
    try:
        status = run_verb(main, [str(film), "--output", str(tmp_path / "out.mp4"), "preset=tiny"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "make room" in errors[0]
    assert not (tmp_path / "out.mp4").exists()


# ---------------------------------------------------------------- real people


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips here")
def test_a_real_film_of_three_people(tmp_path: Path) -> None:
    """Two of three are restored, side by side and one after the other; all else is the source's."""
    images = [
        *people_of("id04", frames=5),
        *people_of("id05", "id07", frames=9, skip=20),
        *landscape(6),
        *people_of("id07", "id04", frames=9, skip=100),
    ]
    times = np.cumsum(np.random.default_rng(0).integers(18, 30, len(images)))
    film = write_film(tmp_path / "film.mp4", images, times=(times - times[0]).tolist(), sound_seconds=3)
    people = tuple(Person(name, (next((REFERENCES / name).iterdir()),)) for name in ("id05", "id07"))
    config = load_config(None, ["video.clip_frames=6", "video.overlap=2"])
    job = Job(film, tmp_path / "out.mp4", people=people)
    assert check_untouched(job, config) == (11, 18)
    report = restore(job, config)
    assert report["cuts"] == [5, 14, 20]
    assert report["people"]["id05"]["frames"] == 9
    assert report["people"]["id07"]["frames"] == 18
    assert times_of(tmp_path / "out.mp4") == times_of(film)
    assert sound_packets(tmp_path / "out.mp4") == sound_packets(film)
