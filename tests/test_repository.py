"""The repository keeps its own rules."""

from __future__ import annotations

import ast
import configparser
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import ipfvr
from ipfvr.core.config import PRESETS, all_keys, load_config
from ipfvr.study.schema import load_study

ROOT = Path(__file__).parents[1]
CODE = sorted(p for folder in ("ipfvr", "tests", "benchmarks", "experiments") for p in (ROOT / folder).rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
LONGEST = 400  # lines of a file that can be read in one sitting
HEAVY = {"distributed", "h5py", "pyiqa", "insightface", "onnxruntime", "wandb", "gradio", "matplotlib"}


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_short_documented_and_cheap_to_import(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST
    assert not tree.body or ast.get_docstring(tree), "a module says in its docstring what its job is"
    at_top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    at_top |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not HEAVY & {name.partition(".")[0] for name in at_top}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    arguments = {word.arg for call in calls for word in call.keywords}
    assert "preexec_fn" not in arguments, "Python between fork and exec can hang for ever where there are threads"


def loader_of(path: Path) -> Callable[[Path], object] | None:
    """What reads it: an experiment, a configuration, or None: a list of people, scenes or sizes, a sweep for W&B."""
    keys = set(OmegaConf.load(path))
    if "rows" in keys:
        return load_study
    return None if keys & {"identities", "people", "program", "sizes"} else load_config


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_an_experiment_says_what_it_is_how_to_run_it_and_loads(path: Path) -> None:
    comment = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    assert comment, "begins with a comment that says what it is"
    load = loader_of(path)
    if load is None:
        return
    commands = [line for line in comment if line.startswith("python -m ipfvr.")]
    name = str(path.relative_to(ROOT))
    assert any(name in line for line in commands), f"shows the command: python -m ipfvr.<verb> {name}"
    assert any("=" in line.partition(name)[2] for line in commands), "shows an override: key=value"
    load(path)


def test_every_preset_loads() -> None:
    presets = sorted(PRESETS.glob("*.yaml"))
    assert presets
    for path in presets:
        assert load_config(overrides=[f"preset={path.stem}"]).preset == path.stem


def test_versions_agree() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: ipfvr.__version__"
    citation = OmegaConf.load(ROOT / "CITATION.cff")
    assert str(citation.version) == ipfvr.__version__
    assert citation.license == setup["metadata"]["license"]
    assert f"## [{ipfvr.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_direct_dependency_is_pinned() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    lines = [line for text in lists for line in text.splitlines() if line and not line.startswith("#")]
    names = {line.split(">")[0].split("=")[0].strip() for line in lines}
    pins = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert names <= pins, f"without a pin: {sorted(names - pins)}"


def test_make_alone_prints_the_targets() -> None:
    run = subprocess.run(["make", "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True)
    for target in ("setup", "demo", "app", "test", "lint", "format", "clean"):
        assert f"make {target} " in run.stdout
    for path in EXPERIMENTS:
        if path.parent.name == "experiments" and loader_of(path) is load_study:
            target = path.stem.replace("_", "-")
            target = target if target.startswith(("ablate", "sweep")) else f"reproduce-{target}"
            assert f"make {target} " in run.stdout
    plan = subprocess.run(
        ["make", "-C", str(ROOT), "-n", "setup", "PYTHON=no-such-python", "VENV=no-such-venv"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip" in plan.stdout


def test_setup_refuses_a_missing_or_old_python_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    for python, reason in (("no-such-python", "no no-such-python"), (str(old), "Python 3.9.2 is too old")):
        run = subprocess.run(
            ["make", "-C", str(ROOT), "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
            capture_output=True,
            text=True,
        )
        assert run.returncode == 2
        errors = [line for line in run.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 1
        assert reason in errors[0]
        assert not (tmp_path / "venv").exists()


SCRIPTS = sorted(p for folder in ("benchmarks", "experiments") for p in (ROOT / folder).rglob("*.py"))
SCRIPTS += sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_script_imports_of_the_package_exists(path: Path) -> None:
    """Inside of functions too, where nobody notices until they are called; and in notebooks."""
    code = path.read_text()
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(code)["cells"] if cell["cell_type"] == "code"]
        lines = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
        code = "\n".join(line for line in lines if not line.startswith(("%", "!")))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ipfvr"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                submodule = find_spec(f"{node.module}.{alias.name}") if hasattr(module, "__path__") else None
                assert submodule or hasattr(module, alias.name), f"{node.module} has no {alias.name}"


VERBS = [
    f"ipfvr.{file.stem}" for file in sorted(ROOT.glob("ipfvr/*.py")) if 'if __name__ == "__main__"' in file.read_text()
] + [f"ipfvr.{file.parent.name}" for file in sorted(ROOT.glob("ipfvr/*/__main__.py"))]


@pytest.mark.parametrize("verb", VERBS)
def test_help_comes_without_anything_heavy(verb: str) -> None:
    """``--help`` is what a stranger types first: nothing that takes seconds is imported for it."""
    module = f"{verb}.__main__" if (ROOT / verb.replace(".", "/")).is_dir() else verb
    code = (
        f"import sys, {module} as verb\n"
        "try:\n    verb.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'cv2', 'scipy', 'av', 'diffusers'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert done.stderr.strip() == "[]"


def test_every_option_has_a_reader() -> None:
    """An option is read as an attribute, or its whole section is taken apart by name."""
    code = "\n".join(path.read_text() for path in ROOT.glob("ipfvr/**/*.py") if "options" not in path.stem)
    unread = [key for key in all_keys() if not re.search(rf"\.{key.rpartition('.')[2]}\b", code)]
    assert not unread


# What nothing imports, and why it is needed all the same.
BEHIND = {
    "opencv-python": "insightface and pyiqa ask for it; it shares a folder with the headless one",
    "setuptools": "pyiqa's clip imports pkg_resources",
    "onnxruntime": "insightface runs its networks on it",
    "ipykernel": "notebooks are run by it",
}


@pytest.mark.parametrize("extra", ["face", "iqa", "app", "notebook", "emotion", "slurm"])
def test_every_package_of_an_extra_is_imported(extra: str) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    files = [*ROOT.glob("ipfvr/**/*.py"), *ROOT.glob("tests/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    code = "\n".join(path.read_text() for path in files)
    for line in settings["options.extras_require"][extra].split():
        name = re.match(r"[\w-]+", line)[0]
        module = name.replace("-", "_")
        assert name in BEHIND or re.search(rf"\b(import|from) {module}\b", code), name


def test_arrows_between_rooms_go_one_way() -> None:
    """No folder of the package stands on one that stands on it, by whatever way."""
    stands_on: dict[str, set[str]] = {}
    for path in ROOT.glob("ipfvr/*/**/*.py"):
        room = path.relative_to(ROOT / "ipfvr").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ipfvr."):
                stands_on.setdefault(room, set()).add(node.module.split(".")[1])

    def all_below(room: str) -> set[str]:
        found: set[str] = set()
        waiting = stands_on.get(room, set()) - {room}
        while waiting:
            found |= waiting
            waiting = set().union(*(stands_on.get(below, set()) for below in waiting)) - found
        return found

    assert not [room for room in stands_on if room in all_below(room)]
