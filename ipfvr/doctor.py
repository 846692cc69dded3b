"""Check this installation: ``python -m ipfvr.doctor [preset=full]``.

Versions, devices, the encoder, room on the disk, weights and their licences; for each thing that is wrong, what to do.
The exit code is 0 where the preset (``mini`` unless another is given) can restore, 1 where it cannot.
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
LEAST_MEMORY = 2 << 30  # bytes: mini restores in less
LEAST_ROOM = 1 << 30  # bytes of disk: finished parts of a film are kept until it is whole


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        state: ``ok``, ``note`` (works without, or with less) or ``WRONG``.
        subject: what it is about.
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
    """The verb's arguments."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as preset=full, or other weights")
    return parser


def main(argv: list[str] | None = None) -> None:
    """The verb; the module's docstring shows its use.

    Raises:
        SystemExit: 1, where something is wrong.
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
    lacking = [line for line in map(_trouble, needed) if line]
    for requirement, trouble in lacking:
        yield Finding(WRONG, requirement.name, trouble, f"pip install '{requirement}'")
    if not lacking:
        yield Finding(OK, "packages", f"all {len(needed)} that are needed")


def extras() -> Iterator[Finding]:
    """Check the packages of the extras."""
    for extra in sorted(importlib.metadata.metadata("ipfvr").get_all("Provides-Extra") or []):
        lacking = [requirement.name for requirement in _requirements(extra) if _trouble(requirement)]
        if lacking:
            yield Finding(NOTE, f"extra {extra}", f"without {', '.join(lacking)}", f"pip install 'ipfvr[{extra}]'")
        else:
            yield Finding(OK, f"extra {extra}", "installed")


def machine(device: str) -> Iterator[Finding]:
    """Check cores, memory, disk, GPUs and the H.264 encoder.

    Args:
        device: what the configuration asks for.
    """
    import av
    import torch

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    enough = memory >= LEAST_MEMORY
    do = "" if enough else "close other programs, or use another machine"
    yield Finding(OK if enough else NOTE, "machine", f"{cores} cores, {readable_size(memory)} of memory", do)
    room = shutil.disk_usage(Path.cwd()).free
    do = "" if room >= LEAST_ROOM else "make room: parts of a film lie beside its output until it is whole"
    yield Finding(NOTE if do else OK, "disk", f"{readable_size(room)} free in {Path.cwd()}", do)
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        yield Finding(OK, f"cuda:{number}", f"{found.name}, {readable_size(found.total_memory)}")
    if not torch.cuda.is_available():
        wanted = device.startswith("cuda")
        said = f"torch {torch.__version__} sees none: mini runs on the processor, full needs one"
        yield Finding(WRONG if wanted else NOTE, "gpu", said, "device=cpu, or install torch for CUDA" if wanted else "")
    try:
        av.codec.Codec("libx264", "w")
        yield Finding(OK, "encoder", f"libx264 (PyAV {av.__version__})")
    except av.codec.codec.UnknownCodecError:
        do = "pip install --force-reinstall --only-binary :all: av"
        yield Finding(WRONG, "encoder", "PyAV has no libx264: no video can be written", do)


def weights(config: Config) -> Iterator[Finding]:
    """Check the weights of the preset, and name better ones.

    Args:
        config: the configuration.
    """
    inside = registry.shipped()
    damaged = [name for name, path in inside.items() if path.is_file() and not _is_safetensors(path)]
    for name in damaged:
        yield Finding(WRONG, name, f"{inside[name]} is damaged", "fetch this project again: it is part of it")
    licences = sorted({shipped_licence(name) for name in inside})
    yield Finding(OK, "shipped", f"{', '.join(inside)} ({'; '.join(licences)})")
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
    """The requirements of the package, or of one extra alone, on this machine."""
    found = [Requirement(line) for line in importlib.metadata.requires("ipfvr") or []]
    plain = [r for r in found if not r.marker or r.marker.evaluate({"extra": ""})]
    if not extra:
        return plain
    return [r for r in found if r not in plain and r.marker and r.marker.evaluate({"extra": extra})]


def _trouble(requirement: Requirement) -> tuple[Requirement, str] | None:
    """What is wrong with a package; None: nothing."""
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
