"""Rows that are other people's programs: each official one's stand-in, and all that a program can do wrong."""

from __future__ import annotations

import re
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from programs import STAND_INS, install

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.methods.__main__ import main
from ipfvr.methods.base import Case
from ipfvr.methods.catalogue import make_method
from ipfvr.methods.description import PROGRAMS, read_description
from ipfvr.metrics.inputs import find_clips
from ipfvr.video.writer import write_picture

GUIDE = Path(__file__).parents[1] / "docs" / "add_a_method.md"
COPY = 'mkdir "$2"; cp "$1"/*.png "$2"'
MINIMAL = "title: T\nfamily: f\nlicence: l\npage: p\ninstall: i\ncommand: [sh, run.sh, '{input}', '{output}']\n"


def level(index: int) -> int:
    """The grey of a frame, which tells its number."""
    return 20 + 8 * index


def make_case(folder: Path, frames: int = 6, side: int = 16, size: int = 32) -> Case:
    low = folder / "low.v1"  # a name with a dot must harm nobody
    low.mkdir(parents=True)
    for index in range(frames):
        write_picture(low / f"{index:06d}.png", np.full((side, side, 3), level(index), np.uint8))
    return Case("clip.v1", "anna", low, size, frames, 25)


def levels(output: Path) -> list[float]:
    """Mean grey of every frame of a result, each of which must be flat."""
    frames = list(find_clips(output)[0])
    assert max(frame.std() for frame in frames) < 1.5
    return [float(frame.mean()) for frame in frames]


def program(folder: Path, script: str, *options: str, **description: object):
    """A method whose program is a shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.sh").write_text(script)
    keys = "".join(f"{key}: {value}\n" for key, value in description.items())
    (folder / "own.yaml").write_text(MINIMAL + keys)
    pairs = [f"methods.own.description={folder / 'own.yaml'}", f"methods.own.folder={folder}", *options]
    return make_method("own", load_config(overrides=["preset=tiny", *pairs]))


def official(name: str, folder: Path, *options: str):
    """A method of the package on its stand-in."""
    described = read_description(PROGRAMS / f"{name}.yaml")
    install(folder, name, described.files, list(described.weights))
    where = (f"methods.{name}.folder={folder}", f"methods.{name}.python={sys.executable}")
    return make_method(name, load_config(overrides=["preset=tiny", *where, *options]))


def test_every_program_of_the_package_has_a_stand_in() -> None:
    assert {path.stem for path in PROGRAMS.glob("*.yaml")} == set(STAND_INS)


@pytest.mark.parametrize("name", sorted(STAND_INS))
def test_a_programs_frames_come_back_in_number_order_and_size(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # only asked, never used
    # The paper's longest run of VEnhancer is 24 frames: 25 are two runs, neither of one frame.
    case = make_case(tmp_path, frames=25 if name == "venhancer_official" else 6)
    method = official(name, tmp_path / "program")
    assert method.missing() is None
    report = method.restore(case, tmp_path / "out")
    wanted = [255 - level(index) for index in range(case.frames)]
    if name == "dmdnet":
        wanted[3] = wanted[2]
        assert "1 missing frame repeated (3)" in report.notes
    assert levels(tmp_path / "out") == pytest.approx(wanted, abs=2)
    assert find_clips(tmp_path / "out")[0].size == (32, 32)
    assert (report.frames, sorted(p.name for p in tmp_path.iterdir())) == (case.frames, ["low.v1", "out", "program"])
    assert set(report.weights) == set(method.description.weights)
    assert sys.executable in report.command


def test_dmdnet_gets_references_twice_and_only_with_their_landmarks(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    picture = tmp_path / "a.png"
    write_picture(picture, np.full((64, 64, 3), 90, np.uint8))
    case = replace(case, references=(picture,))
    marks = tmp_path / "marks"
    method = official("dmdnet", tmp_path / "program", f"methods.dmdnet.landmarks={marks}")
    generic = method.restore(case, tmp_path / "generic")
    (marks / "anna").mkdir(parents=True)
    (marks / "anna" / "a.png.txt").write_text("1 2\n" * 68)
    specific = method.restore(case, tmp_path / "specific")
    # Both give the collage's last part, of two or of three.
    assert levels(tmp_path / "generic") == levels(tmp_path / "specific")
    assert generic.notes == specific.notes


# What a program can do wrong


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "it wrote nothing"),
        (COPY + "; echo out of memory >&2; exit 3", "exit code 3; the last line of .*: out of memory"),
        (COPY + '; rm "$2"/00000004.png', r"1 of 6 frames are missing: 4"),
        (COPY + '; cp "$2"/00000004.png "$2"/00000009.png', "frames that are not in its input: 9 of 6"),
        (COPY + '; mv "$2"/00000004.png "$2"/last.png', "last.png, whose name holds no frame number"),
        (COPY + '; cp "$2"/00000004.png "$2"/4.png', "frame 4 twice"),
        (COPY + '; echo none > "$2"/00000004.png', "is not a picture"),
        ("kill -9 $$", "exit code -9"),
    ],
)
def test_what_goes_wrong_is_one_line_and_what_was_there_stays(script: str, reason: str, tmp_path: Path) -> None:
    case, output = make_case(tmp_path), tmp_path / "out"
    output.mkdir()
    (output / "before").write_text("kept")
    with pytest.raises(UserError, match=reason) as error:
        program(tmp_path / "program", script).restore(case, output)
    assert str(error.value).startswith("T on clip.v1: ")
    assert "\n" not in str(error.value)
    assert [p.name for p in output.iterdir()] == ["before"]
    assert {p.name for p in tmp_path.iterdir()} - {"out.log"} == {"low.v1", "out", "program"}


def test_an_odd_exit_code_that_is_known_is_no_failure(tmp_path: Path) -> None:
    method = program(tmp_path / "program", COPY + "; exit 1", accept=[0, 1])
    assert method.restore(make_case(tmp_path), tmp_path / "out").frames == 6


def test_a_program_that_hangs_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    script = f"(sleep 2; touch {tmp_path / 'alive'}) & sleep 60"
    method = program(tmp_path / "program", script, "methods.own.timeout=0.5")
    began = time.perf_counter()
    with pytest.raises(UserError, match=r"stopped after 0.5 s"):
        method.restore(make_case(tmp_path), tmp_path / "out")
    assert time.perf_counter() - began < 2
    time.sleep(2.2)
    assert not (tmp_path / "alive").exists()


def test_missing_frames_are_repeated_up_to_a_share_and_noted(tmp_path: Path) -> None:
    first_two = COPY + '; rm "$2"/00000000.png "$2"/00000001.png'
    lenient = {"output": "{missing: repeat, most_missing: 0.4}"}
    report = program(tmp_path / "program", first_two, **lenient).restore(make_case(tmp_path), tmp_path / "out")
    assert report.notes == ("2 missing frames repeated (0, 1)",)
    assert levels(tmp_path / "out") == [level(i) for i in (2, 2, 2, 3, 4, 5)]
    three = first_two + ' "$2"/00000005.png'
    with pytest.raises(UserError, match="3 of 6 frames are missing: 0, 1, 5"):
        program(tmp_path / "other", three, **lenient).restore(make_case(tmp_path / "b"), tmp_path / "out2")


def test_sizes_are_cut_and_resized_as_the_description_says_or_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path, side=16, size=32)
    with pytest.raises(UserError, match="16 x 16, not 32 on a side"):
        program(tmp_path / "a", COPY, output="{resize: false}").restore(case, tmp_path / "out")
    with pytest.raises(UserError, match="16 x 16, too small to crop 32 x 32 at -32, 0"):
        program(tmp_path / "b", COPY, output="{crop: [-32, 0, 32, 32]}").restore(case, tmp_path / "out")
    with pytest.raises(UserError, match="16 x 8 for a square"):
        program(tmp_path / "c", COPY, output="{crop: [0, 4, 16, 8]}").restore(case, tmp_path / "out")
    whole = program(tmp_path / "d", COPY, input="{side: full}", output="{resize: false}")
    assert whole.restore(case, tmp_path / "out").frames == 6


def test_a_short_clip_is_refused_before_the_program_runs(tmp_path: Path) -> None:
    method = program(tmp_path / "program", f"touch {tmp_path / 'ran'}", input="{least: 2}")
    with pytest.raises(UserError, match=r"needs at least 2 frames, but clip.v1 has 1"):
        method.restore(make_case(tmp_path, frames=1), tmp_path / "out")
    with pytest.raises(UserError, match=r"has 6 frames, but the case clip.v1 expects 7"):
        method.restore(replace(make_case(tmp_path / "b"), frames=7), tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_it_does_not_see_our_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    script = COPY + f'; echo "$PYTHONPATH|$KIND" > {tmp_path / "seen"}'
    program(tmp_path / "program", script, environment="{KIND: mine}").restore(make_case(tmp_path), tmp_path / "out")
    assert (tmp_path / "seen").read_text() == "|mine\n"


# What is missing, and what is said wrongly


def test_each_thing_that_is_missing_is_named_with_what_would_bring_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reason(*options: str) -> str | None:
        return make_method("keep", load_config(overrides=["preset=tiny", *options])).missing()

    folder = tmp_path / "keep"
    assert "git clone" in reason()
    assert "methods.keep.folder=" in reason()
    assert f"no folder {folder}" in reason(f"methods.keep.folder={folder}")
    folder.mkdir()
    assert "no inference_keep.py" in reason(f"methods.keep.folder={folder}")
    described = read_description(PROGRAMS / "keep.yaml")
    install(folder, "keep", described.files, [])
    assert "put weights/KEEP/KEEP-*.pth into" in reason(f"methods.keep.folder={folder}")
    install(folder, "keep", described.files, list(described.weights))
    assert "methods.keep.python=" in reason(f"methods.keep.folder={folder}")
    assert "does not exist" in reason(f"methods.keep.folder={folder}", "methods.keep.python=no-such-python")
    monkeypatch.setenv("IPFVR_PROGRAMS", str(tmp_path))
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert reason() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reason() is None
    with pytest.raises(UserError, match="git clone"):
        make_method("dmdnet", load_config(overrides=["preset=tiny"])).restore(make_case(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (MINIMAL.replace("title", "titel"), "unknown key 'titel'; the nearest valid one is 'title'"),
        (MINIMAL + "output: {patern: x}", "'output.patern'; the nearest valid one is 'output.pattern'"),
        (MINIMAL.replace("licence: l\n", ""), "'licence' is missing"),
        (MINIMAL + "accept: yes please", "accept"),
        (MINIMAL.replace("{input}", "{inptu}"), r"'\{inptu\}' in .* is not a placeholder"),
        (MINIMAL + "output: {missing: invent}", "'invent' is unknown: use refuse or repeat"),
        (MINIMAL + "output: {number: '[0-9]+'}", "must have one group"),
        (MINIMAL + "input: {side: big}", "'big' is neither low nor full"),
        ("- a list", "must hold keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_description_is_one_line(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(UserError, match=reason):
        read_description(tmp_path / "own.yaml")


# The guide


def test_the_guides_example_does_what_the_guide_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    blocks = {kind: text for kind, text in re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(), re.S)}
    (tmp_path / "sharpen").mkdir()
    (tmp_path / "sharpen" / "sharpen.py").write_text(blocks["python"])
    (tmp_path / "sharpen.yaml").write_text(blocks["yaml"])
    make_case(tmp_path, side=64).low.rename(tmp_path / "low.mp4")  # a folder of frames will do
    monkeypatch.chdir(tmp_path)
    first, second = (shlex.split(line)[3:] for line in blocks["bash"].strip().splitlines())
    main(first)
    assert "Unsharp mask is not installed: copy its eight lines" in capsys.readouterr().out
    main([sys.executable.join(word.split("python3")) for word in second])
    assert cv2.imread("sharpened/000005.png").shape == (128, 128, 3)
    assert Path("sharpened.json").is_file()
