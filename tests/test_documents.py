"""What README and docs name exists: verbs, options, files, functions; and says what the documents say it does."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import ipfvr
from ipfvr.core.config import all_keys, load_config
from ipfvr.diffusion.sampler import Sampler
from ipfvr.diffusion.schedule import Schedule
from ipfvr.diffusion.streams import Streams
from ipfvr.weights.catalogue import ENTRIES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = {path.stem for path in (ROOT / "ipfvr").glob("*.py")} | {"report.dashboard", "report.documents"}
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


LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown's toc makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    """A link of a document leads to a file that is there, and to a heading that the file has."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link
        # The site holds docs/ alone.
        assert path.parent != ROOT / "docs" or target.is_relative_to(ROOT / "docs"), link


def test_the_navigation_has_every_page_once() -> None:
    pages = [page for entry in yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"] for page in entry.values()]
    assert sorted(pages) == sorted(["results/index.md", *(path.name for path in (ROOT / "docs").glob("*.md"))])


def test_the_reference_pages_name_what_there_is() -> None:
    """Every name after ``:::`` exists; the public API and the function of every equation are among them."""
    named = set()
    for path in (ROOT / "docs").glob("api*.md"):
        for name in re.findall(r"^::: ([\w.]+)$", path.read_text(), re.MULTILINE):
            parts = name.split(".")
            found, at = importlib.import_module("ipfvr"), 1
            while at < len(parts):
                found = getattr(found, parts[at], None) or importlib.import_module(".".join(parts[: at + 1]))
                at += 1
            named.add(found)
    assert {getattr(ipfvr, name) for name in ipfvr.__all__} <= named
    table = (ROOT / "docs" / "equations.md").read_text()
    code = (ROOT / "docs" / "api_equations.md").read_text()
    for place in re.findall(r"^\| Eq\. \d+ \|[^|]*\| `([\w.]+)`", table, re.MULTILINE):
        assert f"::: {place}\n" in code, place


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="pip install 'ipfvr[docs]' builds the site")
def test_the_site_builds_without_a_warning_and_asks_for_nothing_outside(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.glob("*.html"))
    assert len(pages) > 10
    for page in pages:
        html = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=[\"']?([^\"' >]+)", html)
        loaded += re.findall(r"<link[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon)[^>]*\bhref=[\"']?([^\"' >]+)", html)
        assert not [url for url in loaded if url.startswith(("http", "//"))], page
        assert ":func:<code>" not in html
