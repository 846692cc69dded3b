"""The console command, and what every verb does on a command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ipfvr.__main__ import completion, main, verbs
from ipfvr.core.errors import UserError, run_verb


def test_the_list_has_a_line_for_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    lines = capsys.readouterr().out.splitlines()[3:]
    assert [line.split()[0] for line in lines] == [*verbs()]
    assert all(len(line.split()) > 2 and line.split()[1][0].isupper() for line in lines)


def test_a_verb_is_given_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("weights", "methods", "restore"):
        with pytest.raises(SystemExit) as end:
            main([verb, "--help"])
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: python -m ipfvr.{verb}")


def test_an_unknown_verb_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"no verb 'restor'.*restore"):
        main(["restor", "a.mp4"])
    assert run_verb(main, ["restor"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


PRESS_TAB = """
. "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_ipfvr 2>/dev/null
echo "${COMPREPLY[@]}"
"""


def test_the_tab_key_completes_verbs_flags_options_and_files(tmp_path: Path) -> None:
    """In bash itself, on the script that the command prints."""
    script = tmp_path / "completion"
    script.write_text(completion())
    (tmp_path / "film.mp4").touch()

    def pressed(*words: str) -> set[str]:
        command = ["bash", "-c", PRESS_TAB, str(script), "ipfvr", *words]
        return set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split())

    assert pressed("") == {*verbs()}
    assert pressed("restore", "--re") == {"--reference"}
    assert pressed("restore", "--others", "") == {"leave", "restore"}
    assert pressed("restore", "fil") == {"film.mp4"}
    assert pressed("restore", "film.mp4", "--output", "o.mp4", "sampler.st") == {
        "sampler.steps=",
        "sampler.start_step=",
    }
    assert pressed("weights", "f") == {"fetch"}


def test_a_shell_without_completion_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--print-completion", "zsh"])
    assert capsys.readouterr().out.startswith("#compdef ipfvr\n")
    with pytest.raises(UserError, match="tcsh: use bash or zsh"):
        main(["--print-completion", "tcsh"])


@pytest.mark.parametrize("command", [["ipfvr.weights"], ["ipfvr"], ["ipfvr", "methods"]], ids=" ".join)
def test_a_reader_that_goes_is_no_error(command: list[str]) -> None:
    """As with ``... | head -1``: no traceback."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
