"""The data layout from raw videos and pictures: what is kept, why the rest is not, who is trained on and who tested."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from people import BLUE, RED, ColourRecogniser, StubDetector, texture, write_video
from PIL import Image

from ipfvr.core.errors import UserError
from ipfvr.data.scenes import thumbnails
from ipfvr.prepare import __main__ as prepare
from ipfvr.prepare import people
from ipfvr.prepare.candidates import Candidate, drop_simultaneous, split_scenes
from ipfvr.prepare.quality import detail_side
from ipfvr.video.reader import VideoReader

SMALL = ["preset=tiny", "prepare.size=48", "prepare.min_width=32", "prepare.min_frames=6", "prepare.min_detail=16"]


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    recogniser = ColourRecogniser()
    recogniser.path = Path("/dev/null")
    monkeypatch.setattr(people, "make_detector", lambda _: StubDetector())
    monkeypatch.setattr(people, "load_recogniser", lambda _: recogniser)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Anna's videos: two alone, one with a cut to somebody else, a short one, a dark one, a broken one."""
    folder = tmp_path / "raw" / "anna"
    for number in range(2):
        write_video(folder / f"v{number}.mp4", texture(12, 64, RED, number))
    write_video(folder / "cut.mp4", np.concatenate([texture(12, 64, RED, 5), texture(12, 64, BLUE, 6)]))
    write_video(folder / "short.mp4", texture(4, 64, RED, 7))
    write_video(folder / "dark.mp4", np.zeros((8, 64, 64, 3), np.uint8))
    (folder / "broken.mp4").write_bytes(b"no video")
    for number in range(3):
        Image.fromarray(texture(1, 64, RED, 90 + number)[0]).save(folder / f"p{number}.png")
    Image.fromarray(texture(1, 64, BLUE, 99)[0]).save(folder / "other.png")
    return tmp_path / "raw"


def run(raw: Path, root: Path, *overrides: str) -> dict[str, dict]:
    """The verb; the candidates of its report by the name of their file and their first frame."""
    prepare.main(["--videos", str(raw), "--root", str(root), *SMALL, *overrides])
    people = json.loads((root / "prepare.json").read_text())["people"]
    return {f"{Path(c['source']).name}:{c['start']}": c for c in people["anna"]}


def test_what_shows_the_person_is_kept_and_the_rest_says_why(raw: Path, tmp_path: Path) -> None:
    found = run(raw, tmp_path / "root")
    folder = tmp_path / "root" / "anna"
    kept = {key for key, c in found.items() if not c["dropped"]}
    assert kept == {"p0.png:0", "p1.png:0", "p2.png:0", "v0.mp4:0", "v1.mp4:0", "cut.mp4:0"}
    for key, why in {
        "other.png:0": "like no other picture",
        "cut.mp4:12": "another person",
        "short.mp4:0": "4 frames",
        "dark.mp4:0": "no face",
        "broken.mp4:0": "broken.mp4",
    }.items():
        assert why in found[key]["dropped"], key
    files = {str(f.relative_to(folder)) for f in folder.rglob("*.*")} - {"prepare.json"}
    assert files == {f"{c['part']}/{c['name']}" for c in found.values() if not c["dropped"]}
    info = VideoReader(next(folder.glob("*/cut_s01.mp4"))).info
    assert (info.width, info.height, info.frames) == (48, 48, 12)


def test_scenes_to_train_on_and_to_test_on_are_of_different_videos(raw: Path, tmp_path: Path) -> None:
    found = run(raw, tmp_path / "root", "prepare.train_scenes=1")
    parts = {key: c["part"] for key, c in found.items() if c["part"] in ("train", "test")}
    assert sorted(parts.values()) == ["test", "test", "train"]
    assert run(raw, tmp_path / "again", "prepare.train_scenes=1").keys() == found.keys()
    assert parts == {
        k: c["part"] for k, c in run(raw, tmp_path / "again", "prepare.train_scenes=1").items() if k in parts
    }


def scene(video: str, seed: int, start: int = 0) -> Candidate:
    return Candidate(Path(video), start, start + 9, 0.9, 64, 64, twins=thumbnails(texture(9, 40, RED, seed)))


@pytest.mark.parametrize("seed", range(6))
def test_related_scenes_stay_together(seed: int) -> None:
    """b shares frames with c, and lies in one video with a: the three are one group, d another."""
    a, b = scene("one.mp4", 1), scene("one.mp4", 2, 20)
    c, d = scene("two.mp4", 2), scene("three.mp4", 3)
    split_scenes([a, b, c, d], 4, np.random.default_rng(seed))
    assert a.part == b.part == c.part != d.part
    alone, apart = scene("one.mp4", 1), scene("one.mp4", 2, 20)
    split_scenes([alone, apart], 4, np.random.default_rng(seed))
    assert {alone.part, apart.part} == {"train", "test"}
    split_scenes([a], 4, np.random.default_rng(seed))
    assert a.part == "train"


def test_nobody_is_seen_twice_at_one_time() -> None:
    near, far, later = (Candidate(Path("v"), s, s + 9, c) for s, c in ((0, 0.5), (5, 0.7), (20, 0.4)))
    drop_simultaneous([near, far, later])
    assert near.dropped
    assert not far.dropped
    assert not later.dropped


def test_detail_is_what_shrinking_loses() -> None:
    """Noise needs its own size; the more it is blurred, the less; a grey wall nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    sides = [detail_side(noise)] + [detail_side(cv2.GaussianBlur(noise, (0, 0), sigma)) for sigma in (1, 1.5)]
    assert sides[0] == 128
    assert sides == sorted(set(sides), reverse=True)
    assert detail_side(np.full((128, 128, 3), 90, np.uint8)) < 24


def test_a_person_is_made_once_and_anew_when_something_changes(raw: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = run(raw, root)
    mark = root / "anna" / "mark"
    mark.touch()
    assert run(raw, root) == first
    assert mark.exists()
    with pytest.raises(UserError, match="no scene was kept"):
        run(raw, root, "prepare.min_frames=13")
    assert not mark.exists()
    assert not list((root / "anna").glob("train/*"))


def test_a_blurred_video_is_dropped(raw: Path, tmp_path: Path) -> None:
    grain = np.random.default_rng(0).integers(-40, 40, (12, 64, 64, 1))
    sharp = np.clip(texture(12, 64, RED, 1) + grain, 25, 255).astype(np.uint8)
    write_video(raw / "anna" / "v1.mp4", sharp)
    found = run(raw, tmp_path / "root", "prepare.min_detail=30")
    assert found["v0.mp4:0"]["dropped"].startswith("blurred")
    assert not found["v1.mp4:0"]["dropped"]
    videos = {f.name for part in ("train", "test") for f in (tmp_path / "root" / "anna" / part).glob("*")}
    assert videos == {"v1_s01.mp4"}
    assert not list((tmp_path / "root" / "anna").glob("*.mp4"))


def test_the_page_needs_nothing_else(raw: Path, tmp_path: Path) -> None:
    found = run(raw, tmp_path / "root")
    sources: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            sources.extend(value for name, value in attrs if name in ("src", "href"))

    Reader().feed((tmp_path / "root" / "prepare.html").read_text())
    assert len(sources) == sum(bool(c["thumbnail"]) for c in found.values())
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_mistakes_are_one_line(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        prepare.main(["--videos", str(tmp_path / "nowhere"), "--root", str(tmp_path / "root")])
    with pytest.raises(UserError, match=r"no carl in .*it holds anna"):
        prepare.main(["--videos", str(raw), "--root", str(tmp_path / "root"), "--people", "carl"])
    (tmp_path / "root" / "anna").mkdir(parents=True)
    with pytest.raises(UserError, match="was not made by prepare"):
        run(raw, tmp_path / "root")
    for picture in (raw / "anna").glob("*.png"):
        picture.unlink()
    with pytest.raises(UserError, match="no scene was kept"):
        run(raw, tmp_path / "other")
    assert "no picture shows whom to look for" in (tmp_path / "other" / "prepare.html").read_text()
