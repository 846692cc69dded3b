"""Forty small wrong changes, one at a time: does a test notice?

    python benchmarks/mutants.py
    python benchmarks/mutants.py --only eq11-positive-weight eq8-sign

Reads ``mutants.yaml``. Each change is made in a copy of the tree, and the narrowest tests are run there: one that fails
has noticed. Without a change they must pass. Prints a Markdown table; exit code 1 where a change survives or tests fail
by themselves. Nothing is changed in the tree itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ipfvr.core.errors import UserError, run_verb

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).with_suffix(".yaml")
COPIED = ("ipfvr", "tests", "benchmarks", "experiments", "docs", "notebooks", "setup.cfg", "README.md")
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "its tests fail without it"


@dataclass(frozen=True)
class Mutant:
    """A wrong change.

    Attributes:
        name: tells it from the others.
        says: what it spoils.
        file: of the tree.
        before: text that occurs once in the file.
        after: what takes its place.
        tests: files of tests, separated by spaces.
        only: which of them, as pytest's ``-k``; empty: all.
    """

    name: str
    says: str
    file: str
    before: str
    after: str
    tests: str
    only: str = ""


def read_mutants() -> list[Mutant]:
    """Those of ``mutants.yaml``."""
    return [Mutant(**entry) for entry in OmegaConf.to_object(OmegaConf.load(FILE))["mutants"]]


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these alone")
    only = parser.parse_args(argv).only
    mutants = [mutant for mutant in read_mutants() if not only or mutant.name in only]
    if unknown := set(only) - {mutant.name for mutant in mutants}:
        raise UserError(f"no mutant {', '.join(sorted(unknown))} in {FILE.name}")
    _preload()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        for path in [ROOT / name for name in COPIED]:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, tree / path.name)
        (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")  # tests read data beside the checkout
        print("| change | spoils | tests | verdict | seconds |\n|---|---|---|---|---|")
        found: list[str] = []
        sound: dict[tuple[str, str], bool] = {}
        for mutant in mutants:
            began = time.perf_counter()
            found.append(verdict(tree, mutant, sound))
            which = f"`{mutant.tests}`" + f" -k '{mutant.only}'" * bool(mutant.only)
            seconds = time.perf_counter() - began
            print(f"| {mutant.name} | {mutant.says} | {which} | {found[-1]} | {seconds:.0f} |", flush=True)
    print(f"\n{found.count(KILLED)} of {len(found)} killed")
    if found.count(KILLED) < len(found):
        raise SystemExit(1)


def verdict(tree: Path, mutant: Mutant, sound: dict[tuple[str, str], bool]) -> str:
    """What the tests say of a tree with the change, which is taken back.

    Args:
        tree: a copy.
        mutant: the change.
        sound: whether tests pass without a change, by what they are asked for; it is filled.
    """
    path = tree / mutant.file
    original = path.read_text()
    path.write_text(original.replace(mutant.before, mutant.after))
    try:
        noticed = not passes(tree, mutant)
    finally:
        path.write_text(original)
    if not noticed:
        return SURVIVED
    asked = (mutant.tests, mutant.only)
    if asked not in sound:
        sound[asked] = passes(tree, mutant)
    return KILLED if sound[asked] else BROKEN


def passes(tree: Path, mutant: Mutant) -> bool:
    """Whether the tests of a mutant pass in a tree.

    They run in a fork of this process, which has the libraries already: to import them takes longer than most tests.

    Raises:
        UserError: there are no such tests.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os._exit(_run(tree, mutant))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code in (pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        raise UserError(f"{mutant.name}: there are no tests {mutant.tests} -k '{mutant.only}'")
    return code == pytest.ExitCode.OK


def _run(tree: Path, mutant: Mutant) -> int:
    """The tests' exit code, in a process of their own: nothing of this tree's project is left in it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ipfvr"]:
        del sys.modules[name]
    os.chdir(tree)
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT), str(ROOT / "benchmarks")))]
    os.environ["PYTHONPATH"] = str(tree)  # of the processes that tests start
    # A file of the same length, changed within a second, would be taken for the one before.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    only = ["-k", mutant.only] if mutant.only else []
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *mutant.tests.split(), *only]))


def _preload() -> None:
    """Import what most tests need; threads that a fork would lose are not started."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("torch", "cv2", "av", "scipy.stats", "skimage.data", "torchmetrics", "pytorch_lightning", "diffusers"):
        importlib.import_module(name)
    sys.modules["cv2"].setNumThreads(1)


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
