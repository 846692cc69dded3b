"""The page of a restoration: one file, the frames that were written, the numbers of the JSON, names escaped."""

from __future__ import annotations

import base64
import json
import logging
import re
import shlex
from dataclasses import fields, replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import HalvesDetector, picture_of, shots, write_film
from people import ColourRecogniser

from ipfvr import restore as verb
from ipfvr.core.config import load_config
from ipfvr.core.messages import show_messages
from ipfvr.core.options import Config
from ipfvr.faces.track import FaceTrack, Scan
from ipfvr.film.batch import restore_many
from ipfvr.film.command import command_of
from ipfvr.film.job import Job, Person
from ipfvr.film.plan import Plan, Presence
from ipfvr.film.run import restore
from ipfvr.film.show import FRAMES, choose_frames
from ipfvr.report.restored import left_out
from ipfvr.video.reader import VideoReader, read_frames
from ipfvr.video.seek import pick_frames
from ipfvr.video.writer import write_video

NAME = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def parts_that_cost_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Faces are halves of a frame, people are colours."""
    recogniser = ColourRecogniser()
    recogniser.path = tmp_path / "recogniser"
    recogniser.path.write_text("weights")
    monkeypatch.setattr("ipfvr.film.analysis.make_detector", lambda config: HalvesDetector())
    monkeypatch.setattr("ipfvr.film.analysis.load_recogniser", lambda name: recogniser)


def tiny(*overrides: str) -> Config:
    return load_config(None, ["preset=tiny", "prompt.describe=false", "people.distinct=0.9", *overrides])


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Red alone, red and blue, nobody, blue."""
    images = shots(("red", "dark", 9), ("red", "blue", 10), ("dark", "dark", 5), ("blue", "dark", 8))
    return write_film(tmp_path / "film.mp4", images)


class Reader(HTMLParser):
    """What a browser would fetch, and the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        found = dict(attributes)
        self.tags.append(tag)
        self.addresses += [found[name] for name in ("src", "href", "poster", "action", "srcset") if name in found]
        self.alts += [found["alt"]] if tag == "img" else []


def decoded(address: str) -> np.ndarray:
    content = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)


def test_the_page_is_one_file_with_the_frames_that_were_written(film: Path, tmp_path: Path) -> None:
    job = Job(film, tmp_path / "out.mp4", references=(picture_of(tmp_path / "me.png", "red"),))
    report = restore(job, tiny(), page=job.page)
    assert json.loads(job.page.with_suffix(".json").read_text())["command"] == report["command"]
    text = job.page.read_text()
    page = Reader(text)
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not re.search(r"https?://|@import|url\(", text)
    assert all(page.alts), "every picture has a text"
    assert page.tags.count("input") == text.count('aria-label="frame ') == FRAMES
    titles = [
        int(number) for number in re.findall(r"<figcaption>frame (\d+), [\d.]+ s</figcaption><div class=stage", text)
    ]
    assert len(titles) == FRAMES
    source, written = read_frames(film), read_frames(job.output)
    for number, index in enumerate(titles):
        before, after = (decoded(a).astype(float) for a in page.addresses[2 * number : 2 * number + 2])
        assert np.abs(before - source[index]).mean() < 3, "of the source"
        assert np.abs(after - written[index]).mean() < 3, "of the finished file"
        assert index < 19, "where the person is restored"
    assert not list(tmp_path.glob(".out*"))


def test_numbers_are_those_of_the_json_and_names_are_escaped(film: Path, tmp_path: Path) -> None:
    source = film.rename(tmp_path / f"{NAME.replace('/', '_')}.mp4")
    red = picture_of(tmp_path / "<b>me.png", "red")
    job = Job(source, tmp_path / "o<i>.mp4", people=(Person("<u>anna", (red,)),))
    report = restore(job, tiny(), page=job.page)
    text = job.page.read_text()
    assert "<script>alert" not in text
    assert not re.search(r"<u>anna|<b>me|o<i>", text)
    said = unescape(text)
    assert report["restored"] == 19
    assert [(face["start"], face["stop"]) for face in report["left_alone"]] == [(9, 19), (24, 32)]
    assert report["faceless"] == [(19, 24)]
    for shown in (
        "19 of 32 frames have a restored face",
        "2, of people without a reference: frames 9-18, 24-31",
        "5 of 32, unchanged: frames 19-23",
        f"in {report['people']['<u>anna']['frames']} of 32 frames",
        f"cosine {report['people']['<u>anna']['cosines'][0]:.2f}",
        f"frames {', '.join(map(str, report['cuts']))}",
        f"{report['seconds']} s on",
        *report["notes"],
        report["command"],
    ):
        assert shown in said


def test_a_change_by_the_reference_is_shown_where_the_report_has_it(film: Path, tmp_path: Path) -> None:
    from ipfvr.report.restored import Pictures, restored_page

    job = Job(film, tmp_path / "out.mp4", references=(picture_of(tmp_path / "me.png", "red"),))
    report = restore(job, tiny())
    assert not job.page.exists(), "no page where none is asked for"
    (person,) = report["people"].values()
    person["reference_change"] = 1.234
    assert "1.234 grey levels" in restored_page(report, Pictures())
    del person["reference_change"]
    assert "grey levels" not in restored_page(report, Pictures())


@pytest.mark.parametrize("kind", [{"scale": 2, "part": (0, 20)}, {"crop": True}])
def test_every_kind_of_output_has_a_page(film: Path, tmp_path: Path, kind: dict) -> None:
    job = Job(film, tmp_path / "out.mkv", **kind)
    report = restore(job, tiny(), page=job.page)
    assert report["frames"] == (20 if "part" in kind else 32)
    assert report["people"]["others"]["frames"] == sum(
        min(face["stop"], report["frames"]) - face["start"] for face in report["tracks"]
    )
    assert all(face["stop"] <= report["frames"] for face in report["left_alone"])
    info, page = VideoReader(job.output).info, Reader(job.page.read_text())
    assert page.tags.count("input") > 2
    frames = page.addresses[: 2 * page.tags.count("input")]
    assert all(decoded(address).shape == (info.height, info.width, 3) for address in frames)


def test_a_film_that_was_stopped_shows_the_same_page(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    pages = []
    for stopped in (False, True):
        job = Job(film, tmp_path / f"{stopped}" / "out.mp4")
        if stopped:
            with monkeypatch.context() as patch:
                patch.setattr("ipfvr.film.write.join", stop)
                with pytest.raises(KeyboardInterrupt):
                    restore(job, tiny(), page=job.page)
            assert list(job.output.parent.glob(".out*")), "the work is kept"
        restore(job, tiny(), page=job.page)
        pages.append(Reader(job.page.read_text()).addresses)
    assert pages[0] == pages[1]
    assert pages[0]


def track(start: int, sizes: np.ndarray) -> FaceTrack:
    landmarks = np.stack([size * np.random.default_rng(0).standard_normal((5, 2)) for size in sizes])
    return FaceTrack(start, landmarks, np.ones(len(sizes), bool), 100.0, 1.0, np.empty((0, 1), np.float32))


def test_frames_are_spread_and_everybody_is_shown_at_their_largest() -> None:
    anna, ben = track(100, 1 + np.sin(np.arange(900) / 40)), track(400, np.linspace(0.1, 0.4, 11))
    presences = tuple(Presence(who, t.start, t.stop, t) for who, t in (("anna", anna), ("ben", ben)))
    plan = Plan(0, 2000, presences, (0, 2000), Scan(2000, [], [anna, ben], []))
    chosen = choose_frames(plan)
    assert len(chosen) == FRAMES
    assert chosen == sorted(set(chosen))
    assert 410 in chosen
    assert all(100 <= index < 1000 for index in chosen)
    assert max(chosen) - min(chosen) > 500
    assert choose_frames(replace(plan, presences=())) == []
    assert choose_frames(replace(plan, presences=presences[:1], start=150, stop=152)) == [150, 151]


def test_a_few_frames_of_a_film_are_those_that_reading_it_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (300, 4, 4, 3), np.uint8), 12, 1).repeat(12, 2)[:, :47, :45]
    for suffix in (".mp4", ".mkv", ".mov"):
        path = tmp_path / f"film{suffix}"
        write_video(path, frames, 24, 20)
        every = read_frames(path)
        wanted = [0, 1, 249, 250, 251, 299]
        found = pick_frames(path, wanted)
        assert list(found) == wanted
        assert all(np.array_equal(found[index], every[index]) for index in wanted)


def test_the_command_asks_for_the_same_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what an experiment file had said; every field of a job is in it."""
    asked: list = []
    monkeypatch.setattr("ipfvr.film.run.restore", lambda job, config, **_: asked.append((job, config)) or 1 / 0)
    monkeypatch.setattr(verb, "restore", lambda job, config, **_: asked.append((job, config)) or 1 / 0, raising=False)
    picture, source = tmp_path / "a b=c.png", tmp_path / "in put.mp4"
    people = (
        Person("anna", (picture, tmp_path / "2.png"), "lora folder", "words.yaml"),
        Person("ben", (tmp_path / "3.png",)),
    )
    whole = Job(source, tmp_path / "o.mp4", people=people, others="restore", scale=2, strength=0.5, face=3, part=(1, 9))
    config = load_config(None, ["preset=tiny", "seed=7", "prompt.negative='a, b: \"c\"'", "prompt.describe=false"])
    jobs = [
        (whole, config),
        (Job(source, tmp_path / "o.mp4", references=(tmp_path / "1.png",), aligned=True, learn=True), config),
        (Job(source, tmp_path / "o.mp4", references=(tmp_path / "1.png",), learn=False), load_config()),
        (Job(source, tmp_path / "o.mp4", crop=True), load_config()),
    ]
    for job, settings in jobs:
        with pytest.raises(ZeroDivisionError):
            verb.main(shlex.split(command_of(job, settings))[3:])
        assert asked[-1] == (job, settings)
    default = Job(source, source)
    spoken = {f.name for f in fields(Job) if any(getattr(j, f.name) != getattr(default, f.name) for j, _ in jobs)}
    assert spoken == {f.name for f in fields(Job)} - {"source"}, "a field that no command here speaks of"


def test_a_folder_of_films_has_a_page_that_leads_to_theirs(film: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a b.mp4", "report.mp4"):
        (folder / name).write_bytes(film.read_bytes())
    (folder / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(Exception, match="1 of 3 files failed"):
        restore_many(Job(folder, tmp_path / "out"), tiny(), page=True)
    links = Reader((tmp_path / "out" / "report.html").read_text()).addresses
    assert links == ["a%20b.html", "report-2.html"]
    assert all((tmp_path / "out" / link.replace("%20", " ")).is_file() for link in links)


def test_notes_without_a_remedy_are_in_the_json_and_not_on_the_screen(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipfvr.film.people import LoadedPeople, load_people

    def with_notes(*args: object) -> LoadedPeople:
        loaded = load_people(*args)
        loaded.notes.append("fetch the weights")
        loaded.asides.append("no room for a word")
        return loaded

    monkeypatch.setattr("ipfvr.film.people.load_people", with_notes)
    show_messages()
    report = restore(Job(film, tmp_path / "out.mp4"), tiny())
    error = capsys.readouterr().err
    show_messages(logging.WARNING)
    quiet = restore(Job(film, tmp_path / "quiet.mp4"), tiny())
    assert (capsys.readouterr().err, quiet["notes"]) == ("", report["notes"])
    assert "note: fetch the weights" in error
    assert "no room" not in error
    assert {"fetch the weights", "no room for a word"} <= set(report["notes"])


def test_what_is_left_out_is_said_in_words() -> None:
    report = {"frames": 9, "cuts": [], "damaged_frames": [], "left_out": [], "sound": "copied"}
    said = left_out({**report, "left_alone": [], "faceless": []})
    assert said["Faces left alone"] == said["Damaged frames"] == "none"
    assert said["Sound"] == "copied untouched"
    some = left_out({**report, "left_alone": [{"start": 3, "stop": 4}], "faceless": [[0, 2], [8, 9]]})
    assert some["Faces left alone"].endswith("frames 3")
    assert some["Frames without a face"] == "3 of 9, unchanged: frames 0-1, 8"
