"""What holds for every test: no network, no telemetry, one thread a process."""

from __future__ import annotations

import os

# Before anything imports these packages: they read their variables once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
