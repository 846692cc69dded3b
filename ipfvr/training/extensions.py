"""Lightning's callbacks and loggers by name: ``trainer.callbacks`` and ``trainer.logger``, as LightningCLI writes them.

    python -m ipfvr.fit --config experiments/lora.yaml trainer.callbacks=[LearningRateMonitor]

    trainer:
      callbacks:
        - {class_path: EarlyStopping, init_args: {monitor: val/loss, patience: 5}}
      logger: {class_path: TensorBoardLogger, init_args: {save_dir: runs/tensorboard}}

A name without a dot is one of ``pytorch_lightning.callbacks`` or ``pytorch_lightning.loggers``; one with dots is
imported, so that a callback of one's own works too.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from pytorch_lightning import callbacks, loggers

from ipfvr.core.errors import UserError

HOMES: dict[str, ModuleType] = {"callbacks": callbacks, "logger": loggers}


def extensions(option: str, given: Any) -> list[Any]:
    """Return the objects that ``trainer.callbacks`` or ``trainer.logger`` asks for.

    Args:
        option: ``callbacks`` or ``logger``.
        given: the option's value: one entry or a list of them, each a name or ``class_path`` with ``init_args``;
            ``None`` and ``False`` ask for nothing.

    Raises:
        UserError: an entry of another form, an unknown class, or arguments that the class does not take.
    """
    entries = given if isinstance(given, list) else [given] if given else []
    return [_make(f"trainer.{option}", HOMES[option], entry) for entry in entries]


def _make(option: str, home: ModuleType, entry: Any) -> Any:
    entry = {"class_path": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not {"class_path"} <= entry.keys() <= {"class_path", "init_args"}:
        raise UserError(
            f"{option}: '{entry}' is not a class; write its name, or {{class_path: NAME, init_args: {{...}}}}"
        )
    module, _, name = str(entry["class_path"]).rpartition(".")
    try:
        made = getattr(importlib.import_module(module) if module else home, name)
    except (ImportError, AttributeError) as error:
        near = "" if module else f"; the nearest is {get_close_matches(name, home.__all__, 1, 0)[0]}"
        raise UserError(f"{option}: no class {entry['class_path']} ({error}){near}") from None
    try:
        return made(**entry.get("init_args", {}))
    except Exception as error:
        raise UserError(f"{option}: {name} cannot be made: {str(error).splitlines()[0]}") from None
