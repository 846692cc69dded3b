"""``ipfvr VERB ...``: the console command; ``python -m ipfvr.VERB ...`` is the same."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

from ipfvr.core.errors import UserError, run_verb

FOLDER = Path(__file__).parent
COMPLETION = "--print-completion"
# Bash adds a space after a completed word, but an option's name is followed by its value.
_NO_SPACE = """
_ipfvr() {
  _shtab_ipfvr "$@"
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
  return 0
}
complete -o filenames -F _ipfvr ipfvr
"""


def verbs() -> dict[str, Path]:
    """Return the file of each verb: a module of the package that can be run, or the ``__main__`` of a folder."""
    files = [path for path in FOLDER.glob("*.py") if path != Path(__file__) and "__main__" in path.read_text()]
    found = {path.stem: path for path in files} | {path.parent.name: path for path in FOLDER.glob("*/__main__.py")}
    return dict(sorted(found.items()))


def main(argv: list[str] | None = None) -> None:
    """Pass the rest of the command line to a verb, or list the verbs.

    Raises:
        UserError: the verb is unknown, or it raises one itself.
    """
    arguments, known = sys.argv[1:] if argv is None else argv, verbs()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: ipfvr VERB ...        ipfvr VERB --help lists its options")
        print(f'       eval "$(ipfvr {COMPLETION} bash)"        the tab key completes verbs, flags and options\n')
        for verb, path in known.items():
            print(f"  {verb:<11}{_summary(path)}")
        return
    verb, rest = arguments[0], arguments[1:]
    if verb == COMPLETION:
        print(completion(*rest[:1]))
        return
    if verb not in known:
        raise UserError(f"ipfvr has no verb '{verb}': use {', '.join(known)}")
    _module(verb, known[verb]).main(rest)


def completion(shell: str = "bash") -> str:
    """Return the script by which a shell completes ``ipfvr ...`` at the tab key, without starting Python.

    Args:
        shell: ``bash``, which also completes the names of options (``sampler.steps=``), or ``zsh``.

    Raises:
        UserError: the shell is another one.
    """
    if shell not in ("bash", "zsh"):
        raise UserError(f"{COMPLETION} {shell}: use bash or zsh")
    import shtab

    from ipfvr.core.config import all_keys

    keys = " ".join(f"{key}=" for key in all_keys())
    words = f'_ipfvr_words() {{ compgen -f -- "$1"; compgen -W "{keys}" -- "$1"; }}'
    file_or_option = {"bash": "_ipfvr_words", "zsh": "_files", "preamble": {"bash": words}}
    root = argparse.ArgumentParser("ipfvr")
    chosen = root.add_subparsers()
    for verb, path in verbs().items():
        parser = _module(verb, path).make_parser()
        for action in parser._actions:
            pairs = "key=value" in str(action.metavar)
            if pairs or (action.nargs != 0 and action.choices is None and action.type is not int):
                action.complete = file_or_option if pairs else shtab.FILE
        chosen.add_parser(verb, parents=[parser], add_help=False, help=_summary(path))
    return shtab.complete(root, shell) + (_NO_SPACE if shell == "bash" else "")


def _module(verb: str, path: Path) -> ModuleType:
    return importlib.import_module(f"ipfvr.{verb}.__main__" if path.stem == "__main__" else f"ipfvr.{verb}")


def _summary(path: Path) -> str:
    """Return the first line of a verb's docstring without the command in it."""
    line = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
    before, _, after = line.partition("``python -m")
    return (before.rstrip(": ") if before else after.partition(": ")[2]).rstrip(".")


def console() -> int:
    """Run the installed command ``ipfvr`` and return its exit code."""
    return run_verb(main)


if __name__ == "__main__":
    raise SystemExit(console())
