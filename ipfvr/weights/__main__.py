"""List weights with their licences, and fetch them: ``python -m ipfvr.weights``.

python -m ipfvr.weights                       the table
python -m ipfvr.weights --verify              the table, with every file's SHA-256 checked
python -m ipfvr.weights fetch yunet niqe      download into the cache folder
python -m ipfvr.weights fetch --if-possible yunet niqe    the same; no error without a network
"""

from __future__ import annotations

import argparse
import os
import textwrap
from pathlib import Path

from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.hashes import sha256
from ipfvr.weights import registry
from ipfvr.weights.catalogue import ENTRIES, Entry, shipped_licence
from ipfvr.weights.entry import readable_size
from ipfvr.weights.fetch import fetch, fetch_if_possible


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.weights", description="List and fetch weights.")
    parser.add_argument("--verify", action="store_true", help="check the SHA-256 of every installed file")
    verbs = parser.add_subparsers(dest="verb", metavar="fetch")
    fetch_parser = verbs.add_parser("fetch", help="download weights into the cache folder")
    fetch_parser.add_argument("names", nargs="+", metavar="NAME", help="names from the table")
    fetch_parser.add_argument("--accept-licence", action="store_true", help="accept the restricted licence printed")
    fetch_parser.add_argument(
        "--if-possible", action="store_true", help="continue without a file that cannot be fetched"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line; the module's docstring shows its uses."""
    arguments = make_parser().parse_args(argv)
    if arguments.verb == "fetch" and arguments.if_possible:
        fetch_if_possible(arguments.names)
        return
    if arguments.verb == "fetch":
        for name in arguments.names:
            print(f"{name}: {fetch(name, arguments.accept_licence)}")
        return
    print(table(arguments.verify))
    broken = [name for name in ENTRIES if arguments.verify and _verdict(ENTRIES[name]).startswith("WRONG")]
    if broken:
        raise UserError(f"wrong content in: {', '.join(broken)}; delete the files and fetch them again")


def table(verify: bool = False) -> str:
    """Return the registry as text, one paragraph for each name: state, path, files, licence."""
    lines = ["Looked for in this order:"]
    lines += [f"  {folder}{'' if folder.is_dir() else '  (not there)'}" for folder in registry.search_folders()]
    lines.append(f"Folders of your own: set {registry.VARIABLE} (separated by '{os.pathsep}').\n")
    for name, path in registry.shipped().items():
        lines += _paragraph(
            name, "there", f"shipped with the package, {readable_size(_bytes(path))}", path, shipped_licence(name), ""
        )
    for entry in ENTRIES.values():
        path = registry.find(entry)
        state = "MISSING" if path is None else _verdict(entry) if verify else "there"
        size = readable_size(_bytes(path)) if path else entry.size
        where = path if path is not None else f"fetch: {registry.fetch_line(entry)}"
        lines += _paragraph(entry.name, state, f"{entry.purpose}, {size}", where, entry.licence, entry.code_licence)
    return "\n".join(lines)


def _paragraph(name: str, state: str, what: str, where: Path | str, licence: str, code_licence: str) -> list[str]:
    licences = f"licence: {licence}" + (f"; code: {code_licence}" if code_licence else "")
    body = [*textwrap.wrap(what, 96), str(where), *textwrap.wrap(licences, 96)]
    return [f"{name:<22}{state}", *(f"    {line}" for line in body)]


def _verdict(entry: Entry) -> str:
    """Return ``verified``, ``WRONG ...`` or, if no hash is known, the hash that was found."""
    path = registry.find(entry)
    if path is None:
        return "MISSING"
    found = {file: sha256(path / file.name if entry.folder else path) for file in entry.files}
    wrong = [file.name for file, digest in found.items() if not file.matches(digest)]
    if wrong:
        return f"WRONG content: {', '.join(wrong)}"
    unknown = [f"{file.name} {digest}" for file, digest in found.items() if file.sha256 is None]
    return "verified" if not unknown else f"there, expected hash unknown; found {'; '.join(unknown)}"


def _bytes(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
