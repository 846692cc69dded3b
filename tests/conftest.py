"""What holds for every test: no network, no telemetry, one thread a process; and a machine without weights."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports these packages: they read their variables once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The modules whose annotated shapes are checked in every call that the tests make of them.
SHAPED = (
    "ipfvr.core.pixels",
    "ipfvr.degradation.faults",
    "ipfvr.degradation.reference",
    "ipfvr.diffusion.guidance",
    "ipfvr.diffusion.long_video",
    "ipfvr.diffusion.noise",
    "ipfvr.diffusion.schedule",
    "ipfvr.identity.reward",
    "ipfvr.metrics.fidelity",
    "ipfvr.metrics.filters",
    "ipfvr.metrics.identity",
    "ipfvr.metrics.warping",
)
CHECKS_SHAPES = all(importlib.util.find_spec(name) for name in ("jaxtyping", "beartype"))
if CHECKS_SHAPES:  # before anything imports these modules
    from jaxtyping import install_import_hook

    install_import_hook(SHAPED, "shapes.check_shapes")


@pytest.fixture(autouse=True)
def as_a_library() -> Iterator[None]:
    """Each test begins as a library: no message is shown until a verb runs or the test asks for it."""
    logger = logging.getLogger("ipfvr")
    logger.handlers = []
    logger.setLevel(logging.NOTSET)
    yield
    logger.handlers = []
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without weights, a folder to work in."""
    from ipfvr.core import provenance
    from ipfvr.weights import registry

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    package = tmp_path / "site" / "ipfvr"  # no setup.cfg beside it: not a checkout
    package.mkdir(parents=True)
    monkeypatch.setattr(registry, "PACKAGE", package)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    return tmp_path
