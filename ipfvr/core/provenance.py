"""The provenance of a result: everything that is needed to make it again."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ipfvr import __version__
from ipfvr.core.config import config_to_dict
from ipfvr.core.folders import PACKAGE
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config

PACKAGES = {
    "torch": "torch",
    "lightning": "pytorch-lightning",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "torchmetrics": "torchmetrics",
    "av": "av",
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
}


def provenance(config: Config, seed: int, weights: Mapping[str, Path], device: str = "") -> dict[str, Any]:
    """Versions, configuration, weights, seed, date and platform, ready for JSON.

    Args:
        config: the whole configuration a run used.
        seed: the seed a run used.
        weights: what each part was loaded from, such as ``{"denoiser": Path(...)}``.
        device: the device that computed; empty: the configuration's own word.

    Returns:
        ``versions`` (this project's with its git commit where there is one), ``weights`` (path,
        bytes and SHA-256 each), ``configuration``, ``seed``, ``device``, ``date`` (UTC), ``platform``.
    """
    return {
        "versions": versions(),
        "weights": {part: _weights_record(Path(path)) for part, path in weights.items()},
        "configuration": config_to_dict(config),
        "seed": seed,
        "device": _device_name(device or config.device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions of this project, of Python and of the packages that results depend on."""
    found = {"ipfvr": __version__, "commit": git_commit() or "not a checkout", "python": platform.python_version()}
    for name, distribution in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Return the checkout's commit, with ``+changes`` when tracked files differ from it; None outside a checkout."""
    root = PACKAGE.parent
    # Without this an installed package would report the commit of whatever repository surrounds it.
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return None
    return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def _weights_record(path: Path) -> dict[str, Any]:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return {"path": str(path), "bytes": sum(p.stat().st_size for p in files), "sha256": sha256(path)}


def _device_name(device: str) -> str:
    import torch  # here: a caller that only lists versions should not pay for it

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(torch.device(device))})"
    return device
