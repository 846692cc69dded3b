"""``ipfvr VERB ...``: the console command; ``python -m ipfvr.VERB ...`` is the same."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from ipfvr.core.errors import UserError, run_verb

FOLDER = Path(__file__).parent


def verbs() -> dict[str, Path]:
    """The file of each verb: a module of the package that can be run, or a folder's ``__main__``."""
    files = [path for path in FOLDER.glob("*.py") if path != Path(__file__) and "__main__" in path.read_text()]
    found = {path.stem: path for path in files} | {path.parent.name: path for path in FOLDER.glob("*/__main__.py")}
    return dict(sorted(found.items()))


def main(argv: list[str] | None = None) -> None:
    """Pass the rest of the command line to a verb; without one, list the verbs.

    Raises:
        UserError: an unknown verb; else as the verb.
    """
    arguments, known = sys.argv[1:] if argv is None else argv, verbs()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: ipfvr VERB ...        ipfvr VERB --help lists the options of one\n")
        for verb, path in known.items():
            print(f"  {verb:<11}{_summary(path)}")
        return
    verb, rest = arguments[0], arguments[1:]
    if verb not in known:
        raise UserError(f"ipfvr has no verb '{verb}': {', '.join(known)}")
    module = f"ipfvr.{verb}.__main__" if known[verb].stem == "__main__" else f"ipfvr.{verb}"
    importlib.import_module(module).main(rest)


def _summary(path: Path) -> str:
    """The first line of a verb's docstring, without the command that many of them show in it."""
    line = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
    before, _, after = line.partition("``python -m")
    return (before.rstrip(": ") if before else after.partition(": ")[2]).rstrip(".")


def console() -> int:
    """The entry point of the installed command ``ipfvr``."""
    return run_verb(main)


if __name__ == "__main__":
    raise SystemExit(console())
