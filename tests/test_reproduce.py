"""Experiments through the verb: what is made, kept, made anew and said."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stubs import lively

import ipfvr.study.work as work
from ipfvr.core.cluster import Cluster
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.progress import read_progress, write_progress
from ipfvr.data.layout import read_root
from ipfvr.methods import inprocess
from ipfvr.reproduce import dry_run, reproduce, run
from ipfvr.study.cells import Cell, Store
from ipfvr.study.judge import choose_judge
from ipfvr.study.make import blocked, in_order, shown_steps
from ipfvr.study.people import SAMPLE, find_people, write_sample
from ipfvr.study.plan import Clip, find_clips, plan_arms, plan_clips
from ipfvr.study.schema import Study, load_study
from ipfvr.training.step_file import StepFile
from ipfvr.weights import needs, registry
from ipfvr.weights.needs import digest_of

TEXT = """
title: "Two rows & a stranger"
columns: [psnr, ids_gt, lpips]
rows:
  Input: {method: bicubic}
  A: {}
  B: {set: [sampler.steps=3]}
  Elsewhere: {method: keep}
claims: [{better: B, metrics: [psnr], says: "B is better."}]
plots: [frames]
tiny: {clips: 1, frames: 6, set: [weights.recogniser=mini/recogniser, data.scene_frames=18, device=cpu]}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person of the embedded sample as a data root."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ipfvr.study.people.SAMPLE_FRAMES", 48)
        write_sample(folder, [SAMPLE])
    return folder


@pytest.fixture
def say(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The verb's arguments for the experiment above; networks whose output depends on what they see."""
    monkeypatch.setattr(inprocess, "Restorer", lively(inprocess.Restorer))
    work._method.cache_clear()
    (tmp_path / "small.yaml").write_text(TEXT)
    common = ["preset=tiny", f"data.root={root}", f"output={tmp_path / 'out'}", "jobs=1", "train.wandb=disabled"]
    return lambda *more: [str(tmp_path / "small.yaml"), *common, *more]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cells that were made or tried."""
    names, real = [], work.make_cell
    monkeypatch.setattr(work, "make_cell", lambda cell, *rest: (names.append(cell.name), real(cell, *rest)))
    return names


def results_of(folder: Path) -> dict:
    """What the report says."""
    return json.loads((folder / "out" / "results.json").read_text())


def study_of(arguments: list[str]) -> Study:
    """The arguments as the verb reads them."""
    return load_study(arguments[0], arguments[1:])


def test_a_run_writes_its_report_and_a_second_one_does_nothing(say, tmp_path, made, monkeypatch) -> None:
    assert run(say("clips=2")) == 0
    found = results_of(tmp_path)
    assert [line["status"] for line in found["lines"]] == ["done", "done", "done", "not run"]
    assert "KEEP is not installed" in found["lines"][3]["reasons"][0]
    assert "methods.keep.folder=" in found["lines"][3]["reasons"][0]
    assert len(found["cells"]) == 6, "three rows on two clips"
    assert found["lines"][1]["summaries"]["psnr"] != found["lines"][2]["summaries"]["psnr"]
    assert found["lines"][0]["summaries"]["psnr"]["clips"] == 2
    assert found["facts"], "where the data come from"
    names = {"index.html", "table.csv", "table.md", "table.tex", "dashboard.json", "ids_over_frames.png"}
    assert names <= {path.name for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(work, "make_cell", None)
    before = (tmp_path / "out" / "index.html").stat().st_mtime_ns
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(say("clips=2", "jobs=2")) == 0, "and starts no workers"
    assert (tmp_path / "out" / "index.html").stat().st_mtime_ns == before


def test_a_changed_option_makes_only_its_cells(say, tmp_path, made) -> None:
    run(say())
    made.clear()
    file = tmp_path / "small.yaml"
    file.write_text(file.read_text().replace("sampler.steps=3", "sampler.steps=4"))
    run(say())
    assert {name.partition(",")[0] for name in made} == {"B"}
    made.clear()
    run(say("reward.gamma=0.5", "degradation.level=light"))
    assert not made, "no row reads these options"
    file.write_text(file.read_text().replace("sampler.steps=4", "sampler.steps=3"))
    run(say())
    assert not made, "the cells of earlier options are kept"


def test_a_killed_run_goes_on_and_ends_in_the_same_numbers(say, tmp_path, made, monkeypatch) -> None:
    run(say())
    whole, count = results_of(tmp_path)["cells"], len(made)
    made.clear()
    real = work.make_cell

    def killed(cell, *rest):
        if len(made) == 5:
            raise KeyboardInterrupt
        real(cell, *rest)

    monkeypatch.setattr(work, "make_cell", killed)
    again = say(f"output={tmp_path / 'again' / 'out'}")
    assert run(again) == 130
    monkeypatch.setattr(work, "make_cell", real)
    run(again)
    assert len(made) == count
    assert json.loads((tmp_path / "again" / "out" / "results.json").read_text())["cells"] == whole


def test_a_cell_that_crashes_says_so_in_its_row_and_the_others_run(say, tmp_path, monkeypatch, capsys) -> None:
    real = inprocess.Bicubic.restore

    def broken(self, case, output):
        if case.seed == 1:
            raise ZeroDivisionError("no light\nin the attic")
        return real(self, case, output)

    def short(self, case, output):
        report = real(self, case, output)
        (output / "000003.png").unlink()
        return report

    monkeypatch.setattr(inprocess.Bicubic, "restore", broken)
    assert run(say("seeds=[0,1]")) == 1
    told = capsys.readouterr()
    assert "1 rows have cells that failed" in told.err
    rows = [line.split(":")[0] for line in told.out.splitlines() if ": PSNR " in line]
    assert rows == [line["title"] for line in results_of(tmp_path)["lines"] if line["status"] == "done"]
    line = results_of(tmp_path)["lines"][0]
    assert (line["status"], line["reasons"]) == ("partly", ["ZeroDivisionError: no light in the attic"])
    assert results_of(tmp_path)["lines"][1]["status"] == "done"
    monkeypatch.setattr(inprocess.Bicubic, "restore", short)
    assert run(say(f"output={tmp_path / 'again' / 'out'}")) == 1
    again = json.loads((tmp_path / "again" / "out" / "results.json").read_text())["lines"][0]
    assert again["status"] == "failed"
    assert "wrote (5, 32, 32, 3), not 6 frames" in again["reasons"][0]
    assert "Input failed: " in (tmp_path / "again" / "out" / "index.html").read_text()


def test_a_lora_is_a_cell_that_rows_share(say, tmp_path, made) -> None:
    file = tmp_path / "small.yaml"
    (tmp_path / "lora.yaml").write_text(
        "data: {levels: [heavy], flip: false}\nloss: {reward: 0.001, highest_noise: 1.0}\nreward: {max_step: 899}\n"
        "lora: {rank: 2}\noptimizer: {steps: 1, warmup: 1}\ntrain: {module: lora}\n"
    )
    file.write_text(
        'title: "LoRA"\ncolumns: [psnr]\nloras: {one: []}\n'
        "rows: {A: {lora: one}, B: {lora: one, set: [sampler.steps=3]}}\n"
        "tiny: {clips: 1, frames: 6, set: [weights.recogniser=mini/recogniser, reward.recogniser=mini/recogniser, "
        "data.scene_frames=12, data.force=true, device=cpu]}\n"
    )
    assert run(say()) == 0, results_of(tmp_path)["lines"]
    assert [name for name in made if name.startswith("LoRA")] == ["LoRA 'one' of astronaut"]
    arms = arms_of(study_of(say()))
    assert arms[0].loras == arms[1].loras
    folder = Store(study_of(say()).store).folder(arms[0].loras[0])
    assert (folder / "weights" / "card.json").is_file()


def test_how_far_a_lora_is_stands_in_the_bar(tmp_path: Path) -> None:
    """Whoever trains it, here or in another process: what is said of it is a file of its temporary folder."""
    store, shown = Store(tmp_path), []
    bar = types.SimpleNamespace(set_postfix_str=shown.append)
    loras = [Cell("lora", f"LoRA of {name}", {"name": name}) for name in ("anna", "ben")]
    trainer = types.SimpleNamespace(global_step=0, max_steps=40, is_global_zero=True)
    module = types.SimpleNamespace(config=load_config(None, [f"train.output={store.begin(loras[0])}"]))
    says = StepFile(every=0)
    with shown_steps(bar, [*loras, Cell("low", "x", {})], store, every=0.01):
        says.on_train_start(trainer, module)
        trainer.global_step = 10
        says.on_train_batch_end(trainer, module)
        last = time.monotonic() + 20
        while not shown and time.monotonic() < last:
            time.sleep(0.01)
        assert re.fullmatch(r"LoRA of anna: step 10 of 40(, \d\d:\d\d left)?", shown[-1])
        says.on_train_end(trainer, module)
    write_progress(store.partial(loras[0]), 10, 40, 252.0)
    assert read_progress(store.partial(loras[0])) == "step 10 of 40, 04:12 left"
    assert read_progress(store.partial(loras[1])) == ""


def arms_of(study: Study) -> list:
    """The plan of a study whose clips are there."""
    people, base, _ = find_people(study)
    store = Store(study.store)
    return plan_arms(study, find_clips(plan_clips(study, people), store), people, store, base)


def test_cells_are_named_by_what_changes_their_result_and_by_nothing_else(root, tmp_path, monkeypatch) -> None:
    """A file that judges trains and restores nothing again, one that finds faces does."""
    (tmp_path / "lora.yaml").write_text("train: {module: lora}\n")
    (tmp_path / "small.yaml").write_text(
        'title: "LoRA"\ncolumns: [psnr]\nloras: {one: []}\n'
        "rows: {Base: {method: venhancer}, Ours: {lora: one}}\ntiny: {clips: 1, frames: 6}\n"
    )
    data = tmp_path / "data"
    shutil.copytree(root, data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    files = tmp_path / "weights"
    files.mkdir()
    monkeypatch.setenv(registry.VARIABLE, str(files))
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "checkout" / "ipfvr")

    def hashes(*more: str) -> dict[str, str]:
        """Of the cells of one clip, by what they are."""
        common = ["preset=tiny", f"data.root={data}", f"output={tmp_path / 'out'}", *more]
        study = load_study(tmp_path / "small.yaml", common)
        person = find_people(study)[0][0]
        (_, scene) = plan_clips(study, [person])[0]
        clip = Clip("a_0", person, Cell("clips", "a", {}), 0, 0, 24.0)
        base, ours = (arm.tasks[0] for arm in plan_arms(study, [clip], [person], Store(study.store), data))
        found = {"scene": scene, "low": ours.restored.after[0], "lora": ours.restored.after[1], "base": base.restored}
        return {k: c.hash for k, c in {**found, "ours": ours.restored, "scores": ours.scores}.items()}

    def changed(*more: str) -> set[str]:
        now = hashes(*more)
        return {name for name, value in now.items() if value != before[name]}

    before = hashes()
    assert hashes() == before
    (files / "judge.pth").write_bytes(b"judge")
    assert changed(f"weights.recogniser={files / 'judge.pth'}") == {"scores"}
    assert changed("weights.recogniser=mini/dlib") == {"scores"}
    assert changed("weights.recogniser=mini/recogniser") == set(), "it stands in where the judge's file is not here"
    assert changed("reward.recogniser=mini/recogniser") == {"lora", "ours", "scores"}
    assert changed("seeds=[1]") == {"base", "ours", "scores"}
    assert changed("optimizer.steps=7") == {"lora", "ours", "scores"}
    assert changed("learn.steps=7", "train.output=x", "device=cpu", "people.same=0.5") == set()
    # The weights beside the judge's that a verb may fetch: each changes what reads it.
    monkeypatch.setattr(needs, "find", lambda entry: entry.name == "yunet")
    monkeypatch.setattr(needs, "digest_of", lambda name, real=digest_of: "new" if name == "yunet" else real(name))
    assert changed() == {"scene", "lora", "ours", "scores"}
    monkeypatch.setattr(needs, "find", lambda entry: None)
    scene = next((data / "astronaut" / "train").iterdir())
    content = scene.read_bytes()
    scene.write_bytes(content + b"0")
    assert changed() == {"lora", "ours", "scores"}
    scene.write_bytes(content)
    assert changed() == set()
    (data / "astronaut" / "prompt.yaml").write_text("emotion: happy\n")
    assert changed() == {"lora", "ours", "scores"}


def test_a_judge_that_trained_with_the_restorer_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(registry.VARIABLE, str(tmp_path))
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "checkout" / "ipfvr")
    stranger = tmp_path / "stranger.pth"
    stranger.write_bytes(b"x")
    for name, chosen, says in (
        ("mobilefacenet", "mini/recogniser", "It replaces mobilefacenet"),
        ("mini/recogniser", "mini/recogniser", "mini was trained with it."),
        ("mini/dlib", "mini/dlib", "mini was trained with it, and the reward of each LoRA uses it."),
    ):
        judge = choose_judge(load_config(None, [f"weights.recogniser={name}"]))
        assert judge.name == chosen
        assert "not independent" in judge.note
        assert says in judge.note
    assert choose_judge(load_config(None, [f"weights.recogniser={stranger}"])) == (str(stranger), "")
    config = load_config(None, [f"weights.recogniser={stranger}", f"reward.recogniser={stranger}"])
    assert "not independent" in choose_judge(config).note


@pytest.mark.slow  # a process imports torch anew
def test_processes_give_the_numbers_that_one_gives(say, tmp_path, monkeypatch) -> None:
    monkeypatch.undo()  # what is changed here is not changed in other processes
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = tmp_path / "small.yaml"
    file.write_text(
        'title: "Bicubic"\ncolumns: [psnr, ids_gt]\nrows: {Input: {method: bicubic}}\n' + TEXT[TEXT.index("tiny") :]
    )
    assert run(say()) == 0
    assert run(say(f"output={tmp_path / 'again' / 'out'}", "jobs=2")) == 0
    again = json.loads((tmp_path / "again" / "out" / "results.json").read_text())
    assert again["cells"] == results_of(tmp_path)["cells"]


def test_cells_come_after_those_they_need_and_fail_with_them(say, tmp_path) -> None:
    study = study_of(say())
    people, base, _ = find_people(study)
    store = Store(study.store)
    scenes = plan_clips(study, people)
    assert find_clips(scenes, store) == []
    folder = store.begin(scenes[0][1])
    store.finish(scenes[0][1], folder, {"starts": [0, 6], "fps": 24.0})
    arms = plan_arms(study, find_clips(scenes, store), people, store, base)
    for trainings_first in (True, False):
        cells = in_order([task.scores for arm in arms for task in arm.tasks], trainings_first)
        for position, cell in enumerate(cells):
            assert all(before in cells[:position] for before in cell.after)
        kinds = [cell.kind == "lora" for cell in cells]
        if any(kinds) and not trainings_first:
            assert {"restored", "scores"} <= {cell.kind for cell in cells[: kinds.index(True)]}, "first numbers first"
    task = arms[0].tasks[0]
    store.fail(task.restored, "failed", "it broke")
    assert blocked(task.scores, store)
    assert store.trouble(task.scores) == ("failed", "it broke")
    assert len({cell.hash for cell in cells}) == len(cells)


def test_what_does_not_exist_is_one_line(say, tmp_path, capsys, root) -> None:
    file = tmp_path / "small.yaml"
    for before, after, says in (
        ("title:", "titel:", "unknown key 'titel'; the nearest valid one is 'title'"),
        ("{method: bicubic}", "{metod: bicubic}", "unknown key 'rows.Input.metod'; the nearest valid one is 'method'"),
        ("sampler.steps=3", "sampler.step=3", "unknown key 'sampler.step'; the nearest valid one is 'sampler.steps'"),
        ("lpips", "lpip", "unknown column 'lpip'; the nearest valid one is 'lpips'"),
        ("better: B", "better: C", "a claim names the row 'C'"),
        ("A: {}", "A: {lora: gone}", "uses the LoRA 'gone'"),
        ("method: keep", "method: kep", "the nearest is 'keep'"),
        ("frames: 6", "frames: 0", "must be at least 1"),
    ):
        file.write_text(TEXT.replace(before, after))
        assert run(say()) == 2
        error = capsys.readouterr().err
        assert "error: " in error
        assert says in error
    file.write_text(TEXT)
    assert run(say("people=[nobody]")) == 2
    assert "no nobody in" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(say(f"data.root={tmp_path / 'empty'}")) == 2
    assert "nobody in" in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown preset"):
        load_study(file, ["preset=tony"])


def test_full_without_weights_names_every_missing_file(root: Path, monkeypatch, tmp_path) -> None:
    for variable in ("IPFVR_WEIGHTS", "IPFVR_PROGRAMS"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    study = load_study(Path(__file__).parents[1] / "experiments" / "table1.yaml", ["preset=full", f"data.root={root}"])
    said = dry_run(study)
    for name in ("venhancer", "i2vgen-vae", "i2vgen-text", "ip-adapter-plus-face", "ip-adapter-image"):
        assert f"python -m ipfvr.weights fetch {name}" in said
    assert "jwhejwhe/VEnhancer" in said
    assert "DMDNet is not installed" in said
    assert "(about 4.1 GB in half precision, 8.2 GB in single (2.045 B parameters), from jwhejwhe/VEnhancer)" in said


def test_people_without_scenes_kept_apart_are_restored_in_the_others(tmp_path: Path) -> None:
    scene = tmp_path / "a" / "train" / "x.mp4"
    scene.parent.mkdir(parents=True)
    scene.write_bytes(b"x")
    (person,) = read_root(tmp_path)
    assert person.test == person.train == (scene,)
    assert "the scenes that its LoRA is trained on are restored" in person.note
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b" / "test").mkdir(parents=True)
    (tmp_path / "b" / "test" / "x.mp4").write_bytes(b"x")
    (tmp_path / "c").mkdir()
    (other,) = read_root(tmp_path)
    assert (other.name, other.train, other.note) == ("b", (), "")


def test_pieces_of_a_scene_do_not_overlap(say) -> None:
    study = study_of(say("clips=2", "rows.A.method=bicubic", "rows.B.method=bicubic"))
    reproduce(study, Cluster())
    hashes = {(t.clip.start, arm.row): t.scores.hash for arm in arms_of(study) for t in arm.tasks}
    assert len({start for start, _ in hashes}) == 2
    assert np.diff(sorted({start for start, _ in hashes})) >= 6, "pieces do not overlap"


def test_the_sample_has_options_of_its_own_which_a_command_overrides(say) -> None:
    sample = study_of(say()).on_sample()
    assert sample.config().optimizer.steps == 30 != study_of(say()).config().optimizer.steps
    assert "optimizer.steps=30" in sample.limits.set  # of which the LoRAs are made
    assert study_of(say("optimizer.steps=7")).on_sample().config().optimizer.steps == 7
