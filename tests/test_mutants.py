"""``benchmarks/mutants.yaml``: forty changes that can still be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import mutants  # noqa: E402

FORTY = mutants.read_mutants()


def test_there_are_forty_of_different_names() -> None:
    assert len({mutant.name for mutant in FORTY}) == len(FORTY) == 40


@pytest.mark.parametrize("mutant", FORTY, ids=lambda m: m.name)
def test_a_change_can_be_made_in_one_place_and_its_tests_are_there(mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.before) == 1
    assert mutant.after != mutant.before
    compile(text.replace(mutant.before, mutant.after), mutant.file, "exec")
    for file in mutant.tests.split():
        assert (ROOT / file).is_file()
