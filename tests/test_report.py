"""Reports: the same numbers in every file, a page that needs no network, conclusions that follow from the numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from reports import example

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.metrics.columns import COLUMNS
from ipfvr.metrics.evaluation import KEYS, make_scorer
from ipfvr.metrics.intervals import Summary, summary_of
from ipfvr.report.documents import write_documents
from ipfvr.report.numbers import interval, number
from ipfvr.report.page import Exhibit, page
from ipfvr.report.sentences import conclusions
from ipfvr.report.tables import csv_table, latex_table, markdown_table, results_json
from ipfvr.study.paper import FILE, paper_table
from ipfvr.study.people import find_people
from ipfvr.study.results import Difference, Results, decide, merged, over_seeds, verdict
from ipfvr.study.schema import Claim, Experiment, Row, load_study
from ipfvr.weights import registry

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FILES = sorted(f for f in EXPERIMENTS.glob("*.yaml") if "rows" in OmegaConf.load(f))


@pytest.fixture
def results() -> Results:
    """See :func:`example`."""
    return example()


def test_every_file_has_the_same_numbers(results: Results) -> None:
    found = json.loads(json.dumps(results_json(results)))
    rows = list(csv.DictReader(io.StringIO(csv_table(results))))
    markdown, latex = markdown_table(results), latex_table(results)
    html = re.sub(r"<span class=ends>(.*?)</span>", r"\1", page(results, Exhibit()))
    for line, row in zip(found["lines"], rows, strict=True):
        for key, summary in line["summaries"].items():
            for part in ("mean", "low", "high", "people", "clips"):
                value = summary[part] if summary else None
                assert row[f"{key}_{part}"] == ("" if value is None else str(value))
            if summary:
                text = interval(Summary(**summary), COLUMNS[key])
                assert text.startswith(number(summary["mean"], COLUMNS[key]))
                assert text in markdown
                assert text in latex
                assert text in html
    assert rows[2]["status"] == "not run"
    assert [len(line.split(" & ")) for line in latex.splitlines() if line.endswith(r"\\")] == [3] * 3
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables}) == 1


def test_what_is_missing_says_why_and_what_is_special_is_escaped(results: Results) -> None:
    markdown, latex, html = markdown_table(results), latex_table(results), page(results, Exhibit())
    for text in (markdown, html.replace("&lt;", "<").replace("&gt;", ">")):
        assert "a footnote" in text
    folds = markdown, html.replace("&lt;", "<").replace("&gt;", ">").replace("<dt>", "- ").replace("</dt><dd>", ": ")
    for text in folds:
        assert text.replace(r"\|", "|").count("- Keep | it: KEEP is not installed: git clone <x>") == 1
        assert "- LPIPS: no weights <here>" in text
        assert "LPIPS n/a" not in text, "a column without any number is folded as a whole"
    assert "git clone <x>" not in html
    assert r"Ours \& co\_1" in latex
    assert r"Base 100\%" in latex
    assert latex.count("{") == latex.count("}")
    assert r"\textbf{28.12 [27.00, 29.50]}" in latex
    assert html.count("<div class=paper>paper ") == 2, "29.51 and 0.582; nothing of ours stands above 0.216"
    assert "Not here: <b>Keep | it</b>, <b>LPIPS</b>." in html
    results.lines[1].missing["ids_gt"] = "no face"
    results.lines[1].summaries["ids_gt"] = None
    assert "IDS to truth n/a: no face" in markdown_table(results)
    assert "IDS to truth n/a: no face" in page(results, Exhibit())


def test_the_papers_numbers_are_compared_by_sign_alone(results: Results) -> None:
    """Neither 'better' nor 'worse' than numbers of other people at another size; what holds is counted."""
    ours = Difference("ids_gt", "Ours", "Base", Summary(0.03, 0.01, 0.06, 7, 14), 0.197, "holds")
    lower = Difference("ids_gt", "Ours", "Keep", None, 0.2, "not run")
    same = Difference("psnr", "Ours", "Base", Summary(0.3, -0.1, 0.6, 7, 14), 0.0, "undecided")
    learnt = Difference("psnr", "Ours", "Keep", None, None, "not drawn")
    results.claims = [("ours is better.", [ours, lower, same, learnt])]
    for text in (markdown_table(results), page(results, Exhibit())):
        plain = re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(style|script)>.*?</\1>", "", text))
        assert "holds in 1, undecided in 1, not drawn in 1, not run in 1 of 4" in plain
        assert "+0.0300 [+0.0100, +0.0600]" in plain
        assert "14 clips of 7 people" in plain
        assert "0.197" not in plain
        assert "worse" not in plain
        assert plain.count("better") == plain.count("ours is better")
        assert "Not run: Keep." in plain
        assert "Not drawn, because the test clips are training clips: Keep." in plain
    sentences = conclusions(results)[0]
    assert "(the paper: higher): holds." in sentences
    assert "(the paper: equal): undecided." in sentences


class Reader(HTMLParser):
    """Which tags are open, and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.addresses += [value for name, value in attributes if name in ("src", "href", "poster", "action")]
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(results: Results, tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"not a video, but bytes")
    shown = Exhibit({"a_0": {"low": clip, "Ours": clip, "original": clip}}, {"plot": np.zeros((4, 4, 3), np.uint8)})
    text, reader = page(results, shown), Reader()
    reader.feed(text)
    assert not reader.open, "every tag is closed"
    assert reader.counts["video"] == 3
    assert reader.counts["img"] == 1
    assert reader.counts["td"] == 4 + 5, "two rows of two numbers, one difference of five parts"
    assert len(reader.addresses) == 4
    assert all(address.startswith("data:") for address in reader.addresses)
    assert not re.search(r"https?://|@import|url\(", text)


def test_a_comparison_opens_with_two_versions_of_one_level(results: Results, tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"not a video, but bytes")
    names = ["light: input", "light: Ours", "severe: input", "severe: Ours", "original"]
    for opening, left in (("severe: input", "severe: input"), ("", "light: input"), ("not run", "light: input")):
        text = page(results, Exhibit({"a_0": dict.fromkeys(names, clip)}, opening=opening))
        assert re.findall(r"<option value=\d+ selected>([^<]*)<", text) == [left, "severe: Ours"]


def test_notes_that_differ_in_a_list_become_one() -> None:
    said = ["no room for: Hat, Bald", "seen", "no room for: Bald, Young", "seen", "no face", "no room here for: Hat"]
    assert merged(said) == ["no room for: Hat, Bald, Young", "seen", "no face", "no room here for: Hat"]


def test_a_verdict_is_where_the_interval_lies() -> None:
    for low, high, psnr, e_warp in ((0.1, 0.2, "holds", "does not hold"), (-0.2, -0.1, "does not hold", "holds")):
        summary = Summary((low + high) / 2, low, high, 5, 5)
        assert verdict(summary, "psnr") == psnr
        assert verdict(summary, "e_warp_gt") == e_warp
    assert verdict(Summary(0.1, -0.1, 0.3, 5, 5), "psnr") == "undecided"
    assert verdict(Summary(0.1, None, None, 1, 8), "psnr") == "undecided"
    assert verdict(Summary(0.1, 0.1, 0.2, 3, 24), "psnr") == "undecided", "three people decide nothing"
    assert verdict(None, "psnr") == "not run"


def test_differences_are_of_people_and_a_clip_counts_once() -> None:
    """However many levels and seeds there are, and though two people's clips have one name."""
    columns, levels, people = ["psnr"], ["light", "heavy"], "abcd"
    experiment = Experiment(rows={"Ours": Row(), "Base": Row()}, levels=levels)
    gain = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 6.0}

    def cells(row: str, level: str) -> list[dict]:
        return [
            {
                "person": p,
                "clip": "scene_0",
                "scores": {"psnr": 20 + seed + (gain[p] + (level == "heavy")) * (row == "Ours")},
            }
            for p in people
            for seed in (0, 1)
        ]

    by_arm = {(row, level): over_seeds(cells(row, level), columns) for row in ("Ours", "Base") for level in levels}
    claim = Claim("Ours", ["Base"], ["psnr"], "better.")
    (found,) = decide(claim, by_arm, experiment, {})
    assert found.summary == summary_of((p, gain[p] + 0.5) for p in people)
    assert (found.summary.people, found.summary.clips, found.verdict) == (4, 4, "holds")
    assert decide(claim, by_arm, experiment, {}, {"d"})[0].verdict == "holds", "no row has a LoRA"
    experiment.rows["Ours"].lora = "reward"
    (found,) = decide(claim, by_arm, experiment, {}, {"d"})
    assert (found.summary.people, found.verdict) == (3, "undecided"), "d's clips are those d's LoRA is trained on"
    (found,) = decide(claim, by_arm, experiment, {}, set(people))
    assert (found.summary, found.verdict) == (None, "not drawn")
    del by_arm["Base", "heavy"]["d", "scene_0"]
    (found,) = decide(claim, by_arm, experiment, {})
    assert (found.summary.people, found.verdict) == (3, "undecided"), "d lacks a level; three people decide nothing"


def test_a_paper_against_its_own_sentence_is_noticed(results: Results) -> None:
    assert "8 clips of 4 people (the paper: lower, against its own sentence): holds." in markdown_table(results)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_an_experiment_resolves_with_every_preset(file: Path) -> None:
    for preset in ("tiny", "mini", "full"):
        study = load_study(file, [f"preset={preset}"])
        assert study.config().preset == preset
    paper = paper_table(study.experiment.paper)
    named = {row.paper or name for name, row in study.experiment.rows.items()}
    assert set(paper) <= named, "every row of the paper's table is a row here"
    for values in paper.values():
        assert set(values) <= set(study.experiment.columns), "and every column a column"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where experiments write; one place for all, as the sample beside it is encoded once."""
    return f"output={tmp_path_factory.mktemp('reproduce') / 'out'}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_an_experiment_of_shared_people_runs_on_other_data_as_it_is(file, output, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "checkout" / "ipfvr")
    monkeypatch.setattr("ipfvr.study.people.SAMPLE_FRAMES", 2)
    people, root, said = find_people(load_study(file, [output]))
    sample = ["astronaut", "drawn_narrow", "drawn_wide"]
    assert ([person.name for person in people], "sample" in said) == (sample, True)
    for person in people:
        assert len(person.train) == len(person.test) == len(person.references) == 1
        assert person.train[0].read_bytes() != person.test[0].read_bytes()
        assert "over one picture" in person.note
    mine = [output, f"data.root={root}"]
    assert [person.name for person in find_people(load_study(file, mine))[0]] == sample
    with pytest.raises(UserError, match="no anna in"):
        find_people(load_study(file, [*mine, "people=[anna]"]))


def test_people_of_the_shared_data_are_those_of_the_file_or_those_asked_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "checkout" / "ipfvr")
    clips, pictures = (tmp_path / "shared" / "data" / part for part in ("clips", "references"))
    people = ["ann", "ben", "cat"]
    for name in people:
        for path in (clips / name / f"{name}_c01.mp4", pictures / name / f"{name}_p01.png"):
            path.parent.mkdir(parents=True)
            path.touch()
    (tmp_path / "scenes.yaml").write_text(
        "people:\n" + "".join(f"  {name}: {{train: [c01], test: [c01], reference: [p01]}}\n" for name in people)
    )
    file = tmp_path / "small.yaml"
    file.write_text(
        'title: "Bicubic"\ncolumns: [psnr]\nrows: {Input: {method: bicubic}}\nscenes: scenes.yaml\n'
        "mini: {of_shared: [ben, cat]}\n"
    )

    def names(*more: str) -> list[str]:
        return [p.name for p in find_people(load_study(file, [f"output={tmp_path / 'out'}", *more]))[0]]

    assert names() == ["ben", "cat"]
    assert names("people=[ann]") == ["ann"]
    assert names("of_shared=[]") == people
    # A scene that the file no longer names for training is not trained on.
    (tmp_path / "scenes.yaml").write_text("people: {ben: {test: [c01], reference: [p01], note: sings}}\n")
    (ben,) = find_people(load_study(file, [f"output={tmp_path / 'out'}", "of_shared=[]"]))[0]
    assert (ben.name, ben.train, len(ben.test), ben.note) == ("ben", (), 1, "sings for: ben")


def test_the_papers_tables_are_whole() -> None:
    tables = OmegaConf.to_object(OmegaConf.load(FILE))
    assert {name: (len(t["rows"]), len(t["columns"])) for name, t in tables.items()} == {
        "table1": (8, 9),
        "table2": (6, 4),
        "table3": (3, 7),
        "table4": (3, 2),
        "table5": (4, 4),
    }
    assert {f.stem for f in FILES if load_study(f).experiment.paper} == set(tables)
    assert set(paper_table("table1")["Ours"].values()) == {
        29.51,
        0.918,
        0.216,
        0.670,
        74.41,
        4.144,
        0.821,
        2.475,
        5.802,
    }
    # What design notes and footnotes say of them.
    assert (
        round(paper_table("table3")["Full Model"]["ids_gt"] - paper_table("table3")["w/o Face2Text"]["ids_gt"], 3)
        == 0.127
    )
    assert paper_table("table5")["Full Model"]["psnr"] != paper_table("table1")["Ours"]["psnr"]


def test_every_metric_has_its_label_of_the_table() -> None:
    assert set(KEYS) <= set(COLUMNS)
    assert make_scorer(load_config(None, []), metrics=KEYS).infos().keys() == set(KEYS)


def test_documents_are_written_from_reports(results: Results, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "t_mini"
    folder.mkdir(parents=True)
    made = {"protocol": {"psnr": "over R, G and B"}, "commands": {"This page": "python -m ipfvr.reproduce t.yaml"}}
    made |= {"facts": [f"data: {Path.home()}/drawn"], "versions": {"ipfvr": "0.1"}}
    (folder / "results.json").write_text(json.dumps(results_json(results) | made))
    (folder / "table.md").write_text(markdown_table(results))
    (folder / "ids_over_frames.png").write_bytes(b"plot")
    (tmp_path / "late.yaml").write_text("title: Later\nrows: {}\n")
    (tmp_path / "lora.yaml").write_text("preset: mini\n")
    index, page_of_t = write_documents(tmp_path / "runs", tmp_path / "docs", tmp_path)
    text = page_of_t.read_text()
    assert text.startswith("# Title <b>\n")
    for part in (
        *markdown_table(results).splitlines()[1:],
        "python -m ipfvr.reproduce t.yaml",
        "data: ~/drawn",
        "ipfvr 0.1",
    ):
        assert part in text
    assert (tmp_path / "docs" / "t_ids_over_frames.png").read_bytes() == b"plot"
    assert "(t_ids_over_frames.png)" in text
    assert "| [Title <b>](t.md) | 2 clips of 1 person | ours is better. | holds: 1 |" in index.read_text()
    assert f"| Later | not run | `python -m ipfvr.reproduce {tmp_path}/late.yaml preset=mini` |" in index.read_text()
    assert "lora.yaml" not in index.read_text()
    with pytest.raises(UserError, match=r"results\.json in"):
        write_documents(tmp_path / "runs", tmp_path / "docs", tmp_path, "full")
