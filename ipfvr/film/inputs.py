"""The inputs of a job as options and hashes: two jobs with equal inputs give the same bytes."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from ipfvr.conditioning.prompt_file import prompt_digest
from ipfvr.core.config import config_to_dict
from ipfvr.core.devices import choose_device, choose_dtype
from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config, WeightsConfig
from ipfvr.core.provenance import versions
from ipfvr.film.job import Job
from ipfvr.weights.needs import needed_parts, weight_files


def job_inputs(job: Job, config: Config) -> dict[str, Any]:
    """Return everything that determines a result, as JSON values: options, hashes, versions and device.

    The path of the output is not part of it.

    Raises:
        UserError: weights that the restoration needs are missing.
    """
    weight_files(config, needed_parts(config))
    device = choose_device(config.device)
    return {
        "input": sha256(job.source),
        "people": [
            {
                "name": person.name,
                "references": [sha256(path) for path in person.references],
                "lora": person.lora and sha256(_existing(person.lora)),
                "prompt": prompt_digest(person.references, person.prompt or config.prompt.file),
            }
            for person in job.everybody
        ],
        "options": {k: v for k, v in asdict(job).items() if k not in ("source", "output", "references", "people")},
        "configuration": config_to_dict(config),
        "weights": {field.name: _weights(config, field.name) for field in fields(WeightsConfig)},
        "versions": versions(),
        "device": str(device) if device.type != "cpu" else f"cpu, {torch.get_num_threads()} threads",
        "dtype": str(choose_dtype(config.dtype, device)),
    }


def _weights(config: Config, part: str) -> str:
    try:
        return "".join(sha256(path) for path in weight_files(config, (part,)).values())
    except UserError:
        return "missing"


def _existing(path: str) -> Path:
    if not Path(path).is_dir():
        raise UserError(f"there is no LoRA folder {path}")
    return Path(path)
