"""The restorer's window without a browser: names, uploads, people, jobs that outlive their server."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from films import write_film, write_png

from ipfvr import restore
from ipfvr.app import __main__ as verb
from ipfvr.app import server
from ipfvr.app.choices import Look, PersonChoice, make_job
from ipfvr.app.components import notes_html, person_card
from ipfvr.app.jobs import DONE, FAILED, RUNNING, STOPPED, WAITING, Jobs, Record, is_running, read, state_of
from ipfvr.app.names import check_names, file_name, person_name, without_folder
from ipfvr.app.person import EXPERIMENT, add_training
from ipfvr.app.preview import Previewer
from ipfvr.app.progress import Progress, read_error, read_notes, read_progress
from ipfvr.app.project import FaceModels, Project, add_pictures, open_project
from ipfvr.app.uploads import take
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.data.sample import portrait
from ipfvr.faces.group import group_tracks
from ipfvr.faces.track import FaceTrack
from ipfvr.film.command import command_of
from ipfvr.film.run import restore as run_job
from ipfvr.video.reader import read_image

NASTY = [
    "../../x",
    "..",
    ".",
    "",
    "/etc/passwd",
    "..\\..\\x.mp4",
    "--output",
    ".hidden",
    "a/../b.png",
    "x\0y",
    "a\nb.mp4",
]


def wait(until: Callable[[], bool], seconds: float = 20) -> None:
    """Until something is so."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("text", NASTY)
def test_a_name_from_outside_is_no_path_and_no_option(text: str, tmp_path: Path) -> None:
    name = file_name(text)
    assert (tmp_path / name).parent == tmp_path
    assert name == Path(name).name
    assert not name.startswith((".", "-"))
    (tmp_path / name).write_text("it can be written")
    try:
        person = person_name(text)
    except UserError:
        return
    assert file_name(person) == person.replace(" ", "_")
    assert not person.startswith(("-", "."))
    assert "=" not in person


def test_names_that_the_command_line_would_misread_are_refused() -> None:
    for name in ("others", "seed", "", "//"):
        with pytest.raises(UserError):
            person_name(name)
    with pytest.raises(UserError, match="two people are called Anna"):
        check_names(["Anna", "Ben", "Anna"])
    assert "<script>" not in notes_html(["<script>alert(1)</script>"])


def test_a_sentence_says_a_file_by_its_name(tmp_path: Path) -> None:
    message = f"{tmp_path}/projects/abc_-1/film.mp4 is empty; {tmp_path}/b.png too"
    assert without_folder(message, tmp_path) == "film.mp4 is empty; b.png too"


def test_uploads_are_kept_apart_and_the_large_and_empty_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.mp4", tmp_path / "b" / "x.mp4"
    for path, text in ((first, "one"), (second, "two")):
        path.parent.mkdir()
        path.write_text(text)
    taken = [take(path, tmp_path / "mine", 1) for path in (first, second)]
    assert [path.read_text() for path in taken] == ["one", "two"]
    second.write_text("")
    with pytest.raises(UserError, match="is empty"):
        take(second, tmp_path / "mine", 1)
    first.write_bytes(bytes(1 << 21))
    with pytest.raises(UserError, match="2 MB, above the limit of 1 MB"):
        take(first, tmp_path / "mine", 1)


def test_what_is_no_film_is_refused_and_not_kept(tmp_path: Path) -> None:
    fake = tmp_path / "film.mp4"
    fake.write_text("this is no film\n" * 20)
    with pytest.raises(UserError, match="not a video"):
        open_project(tmp_path / "p", [fake], load_config(), SimpleNamespace(), 10, lambda *_: None)
    assert not list((tmp_path / "p").iterdir())


def test_tracks_of_one_face_are_one_person_unless_they_share_a_frame() -> None:
    def track(start: int, angle: float) -> tuple[int, FaceTrack]:
        vectors = np.array([[np.cos(angle), np.sin(angle)]])
        return 0, FaceTrack(start, np.zeros((10, 5, 2)), np.ones(10, bool), 1.0, 1.0, vectors)

    assert group_tracks([track(0, 0.0), track(20, 0.1), track(40, 1.5)], 0.9) == [[0, 1], [2]]
    assert group_tracks([track(0, 0.0), track(5, 0.1)], 0.9) == [[0], [1]]
    film, other = track(5, 0.1)
    assert group_tracks([track(0, 0.0), (film + 1, other)], 0.9) == [[0, 1]], "frames of two films are not shared"
    assert group_tracks([track(0, 0.0), track(20, 0.1)], 0.999) == [[0], [1]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A film of one person, whose picture was dropped, and a photo of the same person mirrored."""
    folder = tmp_path_factory.mktemp("app")
    small = cv2.resize(portrait(), (360, 360), interpolation=cv2.INTER_AREA)
    film = write_film(folder / "an old (film).mp4", [np.roll(small, 2 * n, 1) for n in range(9)])
    photo, picture = folder / "photo.png", folder / "face.png"
    write_png(photo, small[:, ::-1])
    write_png(picture, portrait())
    face_models = FaceModels(load_config())
    project = open_project(folder / "p", [film, photo], load_config(), face_models, 10, lambda *_: None)
    given, refused = add_pictures(project, [picture, film], face_models, 10)
    assert len(given) == len(refused) == 1
    assert "person 1" in given[0]
    return project


def test_a_picture_of_the_only_person_needs_less_likeness(project: Project, tmp_path: Path) -> None:
    picture = tmp_path / "face.png"
    write_png(picture, portrait())
    seen = replace(project.people[0], pictures=[])
    strict = replace(project, folder=tmp_path, people=[seen], bound=1.1, alone=0.5, taken={})
    face_models = FaceModels(load_config())
    given, refused = add_pictures(strict, [picture], face_models, 10)
    assert "person 1" in given[0]
    assert not refused
    for crowd in (replace(strict, more=1), replace(strict, people=[seen, seen]), replace(strict, alone=1.1)):
        given, refused = add_pictures(crowd, [picture], face_models, 10)
        assert not given
        assert "bound is 1.1" in refused[0]


def test_one_person_is_found_in_film_and_photo(project: Project) -> None:
    assert len(project.people) == 1
    assert [project.people[0].frames(number) for number in (0, 1)] == [9, 1]
    assert project.people[0].thumbnail.shape == (192, 192, 3)
    assert 0 <= project.busiest(0) < 9


@pytest.mark.parametrize(
    "look",
    [
        Look(),
        Look(learn=True),
        Look(strength=0.5, scale=2, steps=3, crf=20, seed=4, others=True, likeness=0.5, first=2, last=5),
    ],
    ids=["plain", "learning", "all"],
)
@pytest.mark.parametrize("pictures", [True, False])
def test_the_command_that_is_shown_is_the_job(
    project: Project, look: Look, pictures: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = project.people[0].pictures[:]
    monkeypatch.setattr(project.people[0], "pictures", kept if pictures else [])
    job, config = make_job(project, 0, [PersonChoice("Anna O'Neill")], look, tmp_path / "out.mp4", ())
    told = []
    monkeypatch.setattr(restore, "_restore_one", lambda *args: told.append(args))
    restore.main(shlex.split(command_of(job, config))[3:])
    assert told == [(job, config, True)]
    assert bool(job.people) == pictures, "where everybody is restored nobody needs to be told apart"


def test_whoever_has_no_picture_is_looked_for_by_the_film_itself(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project.people[0], "pictures", [])
    monkeypatch.setattr(project, "more", 1)  # somebody who is to be left alone
    job, _ = make_job(project, 0, [PersonChoice("Anna")], Look(), Path("out.mp4"), ())
    assert job.people[0].references == (project.people[0].still,)
    with pytest.raises(UserError, match="tick whom to restore"):
        make_job(project, 0, [PersonChoice("Anna", restore=False)], Look(), Path("out.mp4"), ())
    job, config = make_job(project, 0, [PersonChoice("Anna")], Look(learn=True), Path("out.mp4"), ())
    assert not job.learns(config), "a face of the film itself has nothing to teach"


def job_of(jobs: Jobs, code: str) -> Path:
    """A job that runs Python code."""
    folder = jobs.new_folder()
    jobs.add(folder, Record("film.mp4", "film", shlex.join(["python", "-c", code]), "", str(folder / "out.mp4")))
    return folder


TALKS = (
    "import sys, time\n"
    "sys.stderr.write('\\rrestoring:  45%|####      | 9/20 [00:03<00:04,  2.5step/s]'); sys.stderr.flush()\n"
    "from pathlib import Path\n"
    "done = Path({done!r})\n"
    "while not done.exists(): time.sleep(0.02)\n"
)


@pytest.mark.parametrize("background", [False, True])
def test_jobs_wait_run_stop_and_resume(tmp_path: Path, background: bool) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.default_int_handler)
        if background:
            server.heed_signals()
        wait_run_stop_and_resume(tmp_path)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_run_stop_and_resume(tmp_path: Path) -> None:
    jobs, done = Jobs(tmp_path / "jobs"), tmp_path / "done"
    first, second = job_of(jobs, TALKS.format(done=str(done))), job_of(jobs, "raise SystemExit('error: no face in it')")
    assert jobs.start_next() == first
    assert Jobs(tmp_path / "jobs").start_next() is None, "one at a time, whichever server asks"
    wait(lambda: state_of(first).progress is not None)
    state = state_of(first)
    assert (state.name, state.progress.phase, state.progress.share, state.progress.left) == (
        RUNNING, "restoring", 0.45, "00:04",
    )  # fmt: skip
    with pytest.raises(UserError, match="stop it first"):
        jobs.remove(first.name)
    jobs.stop(first.name)
    wait(lambda: state_of(first).name == STOPPED)
    assert jobs.start_next() == second
    wait(lambda: state_of(second).name == FAILED)
    assert state_of(second).error == "no face in it"
    done.touch()
    jobs.resume(first.name)
    assert state_of(first).name == WAITING
    assert jobs.start_next() == first
    wait(lambda: state_of(first).name == DONE)
    jobs.remove(second.name)
    assert jobs.all() == [first]
    with pytest.raises(UserError, match="gone"):
        jobs.find("../jobs")


def test_progress_is_read_off_the_bars_of_tqdm_and_of_a_training(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_progress(log) is None
    log.write_text(
        "note: one thing\nnote: one thing\nfinding faces:  94%|█| 77/82 [00:05<00:00, 14.9frame/s]\r"
        "restoring:   0%|          | 0/6 [00:00<?, ?step/s]\rrestoring:  17%|█▋     | 1/6 [00:04<00:24,  4.99s/step]"
    )
    assert read_progress(log) == Progress("restoring", 0.17, "00:24")
    assert read_notes(log) == ["one thing"]
    log.write_text("\x1b[2KEpoch 0/-2 \x1b[35m━━━\x1b[0m 6/10 \x1b[2m0:01:20 • 0:01:09\x1b[0m \x1b[2;4m0.06it/s\x1b[0m")
    assert read_progress(log) == Progress("training", 0.6, "01:09")
    log.write_text("Traceback ...\nerror: no face found\n")
    assert read_error(log) == "no face found"


def test_a_preview_of_a_photo_is_what_the_job_writes(project: Project, tmp_path: Path) -> None:
    photo = project.films[1]
    job, config = make_job(project, 1, [PersonChoice("Anna")], Look(), tmp_path / "out.png", ())
    preview = Previewer().frame(photo, job, config, 0)
    run_job(job, config)
    np.testing.assert_array_equal(preview.after, read_image(job.output))
    assert np.abs(preview.after.astype(int) - preview.before).max() > 5
    (track, before, after) = preview.faces[0]
    assert track is project.people[0].tracks[1][1]
    assert before.shape == after.shape == (512, 512, 3)


def test_a_job_outlives_its_server_and_is_given_again_when_it_was_killed_too(tmp_path: Path) -> None:
    jobs, done = Jobs(tmp_path / "jobs"), tmp_path / "done"
    folder = job_of(jobs, TALKS.format(done=str(done)))
    code = f"from pathlib import Path; from ipfvr.app.jobs import Jobs; Jobs(Path({str(jobs.folder)!r})).start_next(); "
    dead = subprocess.Popen([sys.executable, "-c", code + "import time; time.sleep(60)"])
    wait(lambda: is_running(folder) and read(folder).leader > 0)
    dead.kill()
    dead.wait()
    assert state_of(folder).name == RUNNING, "the server's death is not the job's"
    os.killpg(read(folder).leader, signal.SIGKILL)
    wait(lambda: state_of(folder).name == WAITING)
    done.touch()
    assert jobs.start_next() == folder
    wait(lambda: state_of(folder).name == DONE)
    assert read(folder).tries == 2


def test_a_training_is_the_command_of_a_person(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs")
    picture, clip = tmp_path / "a.png", tmp_path / "b.mp4"
    for path in (picture, clip):
        path.write_text("content")
    folder = add_training(jobs, "../Anna B", [picture], [clip], 20, 10)
    words = shlex.split(read(folder).command)
    assert words[:5] == ["python", "-m", "ipfvr.fit", "--config", str(EXPERIMENT)]
    config = load_config(EXPERIMENT, words[5:])
    assert (config.data.identity, config.optimizer.steps) == ("Anna_B", 20)
    assert sorted(path.name for path in (Path(config.data.root) / "Anna_B").rglob("*.*")) == ["a.png", "b.mp4"]
    assert Path(config.data.root).is_relative_to(folder)
    for pictures, clips, reason in (
        ([], [clip], "no picture"),
        ([picture], [], "no clip"),
        ([clip], [clip], "no picture"),
    ):
        with pytest.raises(UserError, match=reason):
            add_training(jobs, "Anna", pictures, clips, 20, 10)


def test_it_listens_to_this_machine_alone_unless_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(server, "serve", lambda settings, host, port, share, browse: told.append((host, port, share)))
    monkeypatch.setenv("GRADIO_SHARE", "True")
    verb.main([])
    verb.main(["--share", "--host", "0.0.0.0", "--port", "80"])
    assert told == [("127.0.0.1", 7860, False), ("0.0.0.0", 80, True)]


def test_a_persons_card_is_in_words(project: Project) -> None:
    """Its text, without the markup, says how often somebody is seen, and names nothing of the code."""
    for seen in project.people:
        text = re.sub(r"<[^>]*>", " ", person_card(project, seen))
        assert re.match(r"\s*Seen in \d+ frames?, in \d+ stretch", text)
        assert not re.search(r"[a-z][A-Z]|\w_\w", text), "a name of a class or a variable"
