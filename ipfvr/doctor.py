"""Check this installation: ``python -m ipfvr.doctor [preset=full]``.

The command checks versions, devices, the encoder, disk space, weights and their licences, and says how to solve each
problem. The exit code is 0 if the preset (``mini`` by default) can restore, and 1 if it cannot.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from ipfvr import __version__
from ipfvr.core.config import load_config
from ipfvr.core.errors import run_verb
from ipfvr.core.folders import cache_folder
from ipfvr.core.options import Config
from ipfvr.core.provenance import git_commit
from ipfvr.study.plan import missing_weights
from ipfvr.weights import registry
from ipfvr.weights.catalogue import ENTRIES, shipped_licence
from ipfvr.weights.entry import readable_size

OK, NOTE, WRONG = "ok", "note", "WRONG"
LEAST_MEMORY = 2 << 30  # bytes; mini needs less
LEAST_DISK = 1 << 30  # bytes; finished parts of a film are kept on disk until the film is complete


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        state: ``ok``, ``note`` (everything works, but with less) or ``WRONG``.
        subject: what was checked.
        says: what was found.
        do: what to do about it; empty: nothing.
    """

    state: str
    subject: str
    says: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.state:<6}{self.subject:<20}{self.says}" + (f"\n{'':<26}-> {self.do}" if self.do else "")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as preset=full, or other weights")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line; the module's docstring shows its use.

    Raises:
        SystemExit: 1 if something is wrong.
    """
    args = make_parser().parse_intermixed_args(argv)
    config = load_config(args.config, args.overrides)
    found = [*packages(), *extras(), *machine(config.device), *weights(config)]
    print("\n".join(map(str, found)))
    wrong = [finding for finding in found if finding.state == WRONG]
    print(f"\npreset {config.preset}: {f'{len(wrong)} things are wrong' if wrong else 'ready'}")
    if wrong:
        raise SystemExit(1)


def packages() -> Iterator[Finding]:
    """Check Python, this package and its requirements."""
    yield Finding(OK, "python", platform.python_version())
    yield Finding(OK, "ipfvr", f"{__version__}, commit {git_commit() or 'none: not a checkout'}")
    needed = _requirements("")
    missing = [line for line in map(_trouble, needed) if line]
    for requirement, trouble in missing:
        yield Finding(WRONG, requirement.name, trouble, f"pip install '{requirement}'")
    if not missing:
        yield Finding(OK, "packages", f"all {len(needed)} requirements are installed")


def extras() -> Iterator[Finding]:
    """Check the packages of the extras."""
    for extra in sorted(importlib.metadata.metadata("ipfvr").get_all("Provides-Extra") or []):
        missing = [requirement.name for requirement in _requirements(extra) if _trouble(requirement)]
        if missing:
            yield Finding(NOTE, f"extra {extra}", f"without {', '.join(missing)}", f"pip install 'ipfvr[{extra}]'")
        else:
            yield Finding(OK, f"extra {extra}", "installed")


def machine(device: str) -> Iterator[Finding]:
    """Check cores, memory, disk, GPUs and the H.264 encoder.

    Args:
        device: the device of the configuration.
    """
    import av
    import torch

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    enough = memory >= LEAST_MEMORY
    do = "" if enough else "close other programs, or use another machine"
    yield Finding(OK if enough else NOTE, "machine", f"{cores} cores, {readable_size(memory)} of memory", do)
    free = shutil.disk_usage(Path.cwd()).free
    do = (
        "" if free >= LEAST_DISK else "free some space: parts of a film are kept beside its output until it is complete"
    )
    yield Finding(NOTE if do else OK, "disk", f"{readable_size(free)} free in {Path.cwd()}", do)
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        yield Finding(OK, f"cuda:{number}", f"{gpu.name}, {readable_size(gpu.total_memory)}")
    if not torch.cuda.is_available():
        required = device.startswith("cuda")
        found = f"torch {torch.__version__} finds none: mini runs on the CPU, full needs a GPU"
        do = "give device=cpu, or install torch for CUDA" if required else ""
        yield Finding(WRONG if required else NOTE, "gpu", found, do)
    try:
        av.codec.Codec("libx264", "w")
        yield Finding(OK, "encoder", f"libx264 (PyAV {av.__version__})")
    except av.codec.codec.UnknownCodecError:
        do = "pip install --force-reinstall --only-binary :all: av"
        yield Finding(WRONG, "encoder", "PyAV has no libx264: no video can be written", do)


def weights(config: Config) -> Iterator[Finding]:
    """Check the weights of the preset, and name optional weights that improve results.

    Args:
        config: the configuration.
    """
    shipped = registry.shipped()
    damaged = [name for name, path in shipped.items() if path.is_file() and not _is_safetensors(path)]
    for name in damaged:
        yield Finding(WRONG, name, f"{shipped[name]} is damaged", "install ipfvr again: the file is part of it")
    licences = sorted({shipped_licence(name) for name in shipped})
    yield Finding(OK, "shipped", f"{', '.join(shipped)} ({'; '.join(licences)})")
    for line in missing_weights(config, "ipfvr"):
        yield Finding(WRONG, "weights", line)
    for name, entry in ENTRIES.items():
        path = registry.find(entry)
        if path is not None:
            yield Finding(OK, name, f"{path} ({entry.licence})")
    absent = [name for name in ("yunet", "mobilefacenet", "niqe") if registry.find(ENTRIES[name]) is None]
    if absent:
        do = f"python -m ipfvr.weights fetch {' '.join(absent)}"
        yield Finding(
            NOTE, "better", f"{', '.join(absent)} are missing: detection is slower and some scores are left out", do
        )
    cache = cache_folder()
    nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        do = f"set {registry.VARIABLE} or XDG_CACHE_HOME to a folder of yours"
        yield Finding(NOTE, "cache", f"{cache} cannot be written", do)


def _requirements(extra: str) -> list[Requirement]:
    """Return the requirements of the package, or of one extra alone, on this machine."""
    found = [Requirement(line) for line in importlib.metadata.requires("ipfvr") or []]
    plain = [r for r in found if not r.marker or r.marker.evaluate({"extra": ""})]
    if not extra:
        return plain
    return [r for r in found if r not in plain and r.marker and r.marker.evaluate({"extra": extra})]


def _trouble(requirement: Requirement) -> tuple[Requirement, str] | None:
    """Return what is wrong with a package; None: nothing is wrong."""
    bare = Requirement(f"{requirement.name}{requirement.specifier}")
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return bare, "is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return bare, f"{version} is installed, {requirement.specifier} is needed"
    return None


def _is_safetensors(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as content:
            return bool(content.keys())
    except (SafetensorError, OSError):
        return False


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
