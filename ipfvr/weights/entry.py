"""An entry of the catalogue of weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One file of an entry.

    Attributes:
        name: file name; of a folder entry, relative to the folder.
        size: bytes; None: unknown.
        sha256: hexadecimal digest, or its first digits if no more are known; None: unknown.
        source: https address, or the path inside the entry's hub repository or archive.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    source: str = ""

    def matches(self, digest: str) -> bool:
        """Return whether a file with this sha256 can be the registered one, so far as its hash is known."""
        return self.sha256 is None or digest.startswith(self.sha256)


@dataclass(frozen=True)
class Entry:
    """A name in the registry.

    Attributes:
        name: what a configuration calls it.
        purpose: one line.
        files: what must be there.
        licence: of the weights.
        code_licence: of the code they come from.
        restricted: the licence forbids some uses; ``fetch`` asks for ``--accept-licence``.
        folder: of an entry that is a folder, its path below a search folder; empty: a single file.
        hub: Hugging Face repository, empty when the files have addresses.
        revision: the hub's revision (a branch name where no commit could be checked).
        archive: address of a zip that holds the files.
        package: the Python package that brings the files, as it is imported; ``pip`` installs it with ``-`` for ``_``.
        page: where a person reads about it.
        about: roughly how large it is, by the count of its parameters, where no size has been checked.
    """

    name: str
    purpose: str
    files: tuple[File, ...]
    licence: str
    code_licence: str
    restricted: bool = False
    folder: str = ""
    hub: str = ""
    revision: str = "main"
    archive: str = ""
    package: str = ""
    page: str = ""
    about: str = ""

    @property
    def size(self) -> str:
        """The size of all files as text: ``4.14 MB``; ``about 2.5 GB`` where only the parameters were counted."""
        sizes = [file.size for file in self.files]
        if None not in sizes:
            return readable_size(sum(size for size in sizes if size))
        return f"about {self.about}" if self.about else "size unknown"

    @property
    def path(self) -> str:
        """Path of the file or folder below a search folder, as ``fetch`` lays it."""
        return self.folder or self.files[0].name


def readable_size(count: float) -> str:
    """Return a number of bytes as text with three digits: ``4.14 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
