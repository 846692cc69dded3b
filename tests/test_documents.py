"""What README and docs name exists: verbs, options, files, functions; and says what the documents say it does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from ipfvr.core.config import all_keys, load_config
from ipfvr.diffusion.sampler import Sampler
from ipfvr.diffusion.schedule import Schedule
from ipfvr.diffusion.streams import Streams
from ipfvr.weights.catalogue import ENTRIES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS = {path.stem for path in (ROOT / "ipfvr").glob("*.py")} | {"report.dashboard"}
VERBS |= {path.parent.name for path in (ROOT / "ipfvr").glob("*/__main__.py")}
SECTIONS = {key.partition(".")[0] for key in all_keys() if "." in key}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_verbs_options_and_files_exist(path: Path) -> None:
    text = path.read_text()
    for verb in re.findall(r"python -m ipfvr\.([a-z_.]+[a-z])", text):
        assert verb in VERBS, verb
    for key in re.findall(r"(?<![\w./{-])([a-z_]+(?:\.[a-z_]+)+)(?=[=`])", text):
        if key.partition(".")[0] in SECTIONS and not key.endswith((".yaml", ".json", ".md")):
            assert key in all_keys() or key.startswith("methods."), key
    for name in re.findall(r"(?<![\w./])((?:docs|benchmarks|tests|experiments|ipfvr|notebooks)/[\w/]+\.\w+)", text):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"^make ([a-z][a-z0-9-]*)", text, re.MULTILINE):
        assert re.search(
            rf"^{target}:|{target.partition('-')[2] or target}\b", (ROOT / "Makefile").read_text(), re.MULTILINE
        )
    for names in re.findall(r"ipfvr\.weights fetch ((?:[a-z0-9_-]+ ?)+)", text):
        assert {name for name in names.split() if not name.startswith("--")} <= set(ENTRIES), names


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_overrides_in_documents_are_taken(path: Path) -> None:
    """What a document tells a reader to write is of the right type, and the sampler takes it."""
    for key, value in re.findall(r"(?<![\w./{-])((?:[a-z_]+\.)+[a-z_]+)=([\w.,\[\]/-]+)", path.read_text()):
        if key in all_keys() and "..." not in value:
            config = load_config(None, [f"{key}={value.rstrip('.,')}"])
            Sampler(config.sampler, Schedule(config.schedule))
            Streams(config.sampler.batch_streams)


def test_every_equation_lives_where_the_table_says_and_is_tested() -> None:
    rows = [
        line.split("|")[1:-1] for line in (ROOT / "docs" / "equations.md").read_text().splitlines() if "| Eq." in line
    ]
    assert [row[0].strip() for row in rows] == [f"Eq. {number}" for number in range(1, 14)]
    for equation, _, place, options, tests in [[cell.strip() for cell in row] for row in rows[1:]]:
        found = importlib.import_module("ipfvr")
        for part in place.strip("`").split(".")[1:]:
            found = getattr(found, part, None) or importlib.import_module(f"{found.__name__}.{part}")
        number = int(equation.split()[1])
        named = [int(n) for n in re.findall(r"Eq\. (\d+)", found.__doc__)]
        assert number in named, f"{place} does not name {equation}"
        assert all(o.strip(" `").rstrip("*").rstrip(".") for o in options.split(","))
        assert (
            equation in (ROOT / tests.strip("`")).read_text()
            or place.rpartition(".")[2].strip("`") in (ROOT / tests.strip("`")).read_text()
        ), f"{tests} does not speak of {equation}"
