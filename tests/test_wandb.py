"""What is logged to W&B: a run a row, once, and what its offline record holds."""

from __future__ import annotations

import json
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reports import example
from wandb_server import wandb_server

from ipfvr.report.dashboard import build, dashboard
from ipfvr.report.wandb_log import frame_means, likeness_charts, log_finished_row, log_results, log_row
from ipfvr.study.cells import Cell, Store
from ipfvr.study.results import Results
from ipfvr.study.schema import Study, load_study

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def results() -> Results:
    """See :func:`reports.example`."""
    return example()


class Run:
    """A W&B run that only remembers."""

    def __init__(self) -> None:
        self.logged: set[str] = set()
        self.summary: dict[str, float] = {}
        self.closed = False

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def log_artifact(self, artifact: object) -> None:
        self.logged.add("artifact")

    def log(self, values: dict) -> None:
        self.logged |= set(values)


class Table:
    """A W&B table that only counts."""

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def add_data(self, *values: object) -> None:
        assert len(values) == len(self.columns)


def stub_wandb(**more: object) -> types.SimpleNamespace:
    """As much of W&B as is used, remembering nothing."""
    plot = types.SimpleNamespace(line_series=lambda **given: given)
    return types.SimpleNamespace(Settings=dict, Table=Table, Video=str, Image=str, plot=plot, **more)


def test_the_dashboard_shows_what_is_logged(results: Results) -> None:
    run = Run()
    log_row(run, stub_wandb(), results, results.lines[0], results.cells, {"a_0": "x", "a_1": "y"})
    spec = dashboard(results, "mine")
    assert json.loads(json.dumps(spec)) == spec
    assert spec["project"] == "mine"
    panels = [panel for section in spec["workspace"]["sections"] for panel in section["panels"]]
    named = {metric for panel in panels for metric in panel["metrics"]}
    assert named == {"psnr", "ids_gt", "frames/psnr", "frames/ids_gt", "videos/a_0", "videos/a_1"}
    assert named <= run.logged | set(run.summary)
    assert run.summary["psnr"] == 28.123456
    assert run.summary["ids_gt/low"] == 0.5
    assert (run.summary["psnr/people"], run.summary["psnr/clips"]) == (3, 3)
    assert frame_means(results.cells) == [
        {"frames/ids_gt": 0.5, "frames/psnr": 1.0},
        {},
        {"frames/ids_gt": pytest.approx(0.5)},
    ]
    chart = likeness_charts(stub_wandb(), results.cells)["charts/ids_gt"]
    assert (chart["keys"], chart["xs"][0]) == (["a_0, seed 0", "a_1, seed 0"], [0, 2])
    assert chart["ys"] == [[0.5, 0.4], [0.5, 0.6]], "a frame without a face is left out"


def test_a_row_is_a_run_and_is_logged_once(results, tmp_path, monkeypatch) -> None:
    runs: list[tuple[dict, Run]] = []

    def init(**given: object) -> Run:
        runs.append((given, Run()))
        return runs[-1][1]

    wandb = stub_wandb(init=init, Artifact=lambda *_, **__: types.SimpleNamespace(add_file=lambda path: None))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    study = load_study(EXPERIMENTS / "wandb/sweep_point.yaml", [f"output={tmp_path}", "train.wandb_entity=us"])
    common = {"spec": study.experiment.rows["Ours"], "tasks": [], "loras": []}
    rows = [types.SimpleNamespace(row=line.row, level=line.level, **common) for line in results.lines]
    assert log_results(results, study, rows, Store(tmp_path)) == ""
    assert [given["job_type"] for given, _ in runs] == ["row", "report"], "rows without numbers have no run"
    assert runs[0][0]["tags"] == ["mini", "heavy", "ipfvr"]
    assert {given["group"] for given, _ in runs} == {study.name}
    assert {(given["project"], given["entity"]) for given, _ in runs} == {("ipfvr", "us")}
    assert all(run.closed for _, run in runs)
    assert runs[0][1].summary["psnr"] == 28.123456
    assert log_results(results, study, rows, Store(tmp_path)) == ""
    assert len(runs) == 2
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert log_results(results, study, rows, Store(tmp_path)) == ""
    assert [(given["job_type"], given["id"]) for given, _ in runs[2:]] == [("row", None)]


def trained_row(results: Results, folder: Path, *pairs: str) -> tuple[Study, types.SimpleNamespace, Store]:
    """A study with a report's files, and its first row with a LoRA; the results keep that row alone."""
    results.cells[0]["per_frame"] = results.cells[1]["per_frame"] = {"ids_ref": [0.3, 0.4], "psnr": [20.0, 21.0]}
    options = [f"output={folder / 'out'}", "train.wandb_project=faces", *pairs]
    study = load_study(EXPERIMENTS / "wandb/sweep_point.yaml", options)
    (folder / "out").mkdir()
    for name in ("index.html", "results.json", "table.csv", "table.md", "table.tex"):
        (folder / "out" / name).write_text("x")
    store, lora = Store(folder / "cells"), Cell("lora", "LoRA 'reward' of anna", {"n": 1})
    made = store.begin(lora)
    (made / "log" / "from_0").mkdir(parents=True)
    (made / "weights").mkdir()
    (made / "weights" / "card.json").write_text("{}")
    (made / "log" / "from_0" / "metrics.csv").write_text("step,loss/rec,val\n0,0.5,\n1,0.25,\n1,,7\n")
    (made / "rewards.csv").write_text("frame,before,after\n0,0.1,0.4\n1,0.2,0.5\n")
    store.finish(lora, made, {})
    line = results.lines[0]
    arm = types.SimpleNamespace(
        row=line.row, level=line.level, spec=study.experiment.rows["Ours"], tasks=[], loras=[lora]
    )
    results.lines = [line]
    return study, arm, store


def test_an_offline_record_holds_the_row(results, tmp_path, monkeypatch) -> None:
    """What the library writes for ``wandb sync``, decoded."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    study, arm, store = trained_row(results, tmp_path)
    line = results.lines[0]
    assert log_results(results, study, [arm], store) == ""
    import wandb

    wandb.teardown()  # the files are whole
    by_job = {}
    for file in (tmp_path / "out").glob("wandb/offline-run-*/run-*.wandb"):
        found = list(wandb_records(file))
        (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
        by_job[run.job_type] = run, found
    run, found = by_job["row"]
    assert (run.project, run.run_group, run.display_name) == ("faces", study.name, line.title)
    assert list(run.tags) == ["mini", "heavy", "ipfvr"]
    assert {item.key: json.loads(item.value_json) for item in run.config.update}["row"] == "Ours"
    summary, charts, history = {}, set(), []
    for record in found:
        kind = record.WhichOneof("record_type")
        if kind == "summary":
            summary |= {"/".join(item.nested_key) or item.key: item.value_json for item in record.summary.update}
        if kind == "config":
            charts |= {tuple(item.nested_key)[-1] for item in record.config.update}
        if kind == "history":
            history.append({"/".join(item.nested_key): item.value_json for item in record.history.item})
    assert json.loads(summary["psnr"]) == 28.123456
    assert json.loads(summary["ids_gt/high"]) == 0.7
    assert [json.loads(row["frames/ids_ref"]) for row in history if "frames/ids_ref" in row] == [0.3, 0.4]
    assert {"charts/ids_ref", "lora/anna/from_0", "lora/anna/r_f"} <= charts
    tables = {json.dumps(json.loads(f.read_text())["data"]) for f in (tmp_path / "out").rglob("*.table.json")}
    assert '[[0, "loss/rec", 0.5], [1, "loss/rec", 0.25]]' in tables
    assert '[[0, "before", 0.1], [1, "before", 0.2], [0, "after", 0.4], [1, "after", 0.5]]' in tables
    assert '"a_0", "a", 0, 1.0' in str(tables), "the cells"
    artifacts = {r.artifact.type for r in by_job["report"][1] if r.WhichOneof("record_type") == "artifact"}
    assert {"report", "lora"} <= artifacts


def test_a_server_gets_a_row_when_it_is_finished_and_the_report_at_the_end(results, tmp_path, monkeypatch) -> None:
    """The online path, from this machine to a stand-in of the server on this machine."""
    with wandb_server() as sent:
        for name, value in {
            "MODE": "online",
            "BASE_URL": sent.address,
            "API_KEY": "a" * 40,
            "DIR": str(tmp_path),
        }.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        study, arm, store = trained_row(results, tmp_path, "train.wandb=online", "train.wandb_entity=us")
        assert log_finished_row(results, study, arm, store) == ""
        row = sent.asked("UpsertBucket")[0]  # later calls change the summary
        assert (row["entity"], row["project"], row["groupName"], row["jobType"]) == ("us", "faces", study.name, "row")
        assert (row["displayName"], row["tags"]) == (results.lines[0].title, ["mini", "heavy", "ipfvr"])
        history = sent.history[row["name"]]
        assert [line["frames/ids_ref"] for line in history if "frames/ids_ref" in line] == [0.3, 0.4]
        rows = json.loads(next(content for name, content in sent.files.items() if name.startswith("media/table/cells")))
        assert rows["data"][0][1:6] == ["heavy", "a_0", "a", 0, 1.0], "the cells"
        assert any(name.startswith("media/table/lora/anna/r_f") for name in sent.files), "the curves of the LoRA"
        assert json.loads(sent.files["wandb-summary.json"])["psnr"] == 28.123456
        assert "report" not in {artifact["artifactTypeName"] for artifact in sent.artifacts}
        assert log_results(results, study, [arm], store) == ""
        jobs = [run["jobType"] for run in sent.asked("UpsertBucket") if run["jobType"]]
        assert jobs == ["row", "report"], "the row is not sent again"
        assert {"report", "lora"} <= {artifact["artifactTypeName"] for artifact in sent.artifacts}
        assert (sent.files["index.html"], sent.files["card.json"]) == (b"x", b"{}")


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline run's file: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts = (b"" if kind in (1, 2) else parts) + content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record


def test_a_wandb_that_cannot_be_reached_stops_nothing(results, tmp_path, monkeypatch) -> None:
    def unreachable(**_: object) -> None:
        raise ConnectionError("no route\nto host")

    wandb = types.SimpleNamespace(init=unreachable, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    study = load_study(EXPERIMENTS / "wandb/sweep_point.yaml", [f"output={tmp_path}"])
    common = {"spec": study.experiment.rows["Ours"], "tasks": [], "loras": []}
    rows = [types.SimpleNamespace(row=line.row, level=line.level, **common) for line in results.lines]
    assert log_results(results, study, rows, None) == "W&B took no more: ConnectionError: no route to host"
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "pip install wandb" in log_results(results, study, rows, None)
    assert json.loads((tmp_path / "dashboard.json").read_text())["group"] == "t"


def test_the_dashboard_is_what_the_library_of_workspaces_takes(results) -> None:
    pytest.importorskip("wandb_workspaces", reason="pip install 'ipfvr[dashboard]'")
    spec = dashboard(results, "faces")
    workspace, report = build(spec, "us")
    assert (workspace.entity, workspace.project, report.project) == ("us", "faces", "faces")
    assert [section.name for section in workspace.sections] == ["Scores", "Frames", "Clips"]
    assert [len(section.panels) for section in workspace.sections] == [2, 2, 1]
    grids = [block for block in report.blocks if hasattr(block, "runsets")]
    assert [runset.entity for grid in grids for runset in grid.runsets] == ["us"]
