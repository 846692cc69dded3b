"""The command line that repeats a job."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ipfvr.core.config import config_to_dict, load_config
from ipfvr.core.options import Config
from ipfvr.film.job import Job

_PLAIN = re.compile(r"[A-Za-z./][\w./-]*")
_NOT_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "none"}  # words that YAML does not read as text


def command_of(job: Job, config: Config) -> str:
    """Return the ``python -m ipfvr.restore`` command that gives the same result without the experiment file."""
    words = ["python", "-m", "ipfvr.restore", str(job.source), "--output", str(job.output)]
    pictures = [_named(person.name, path) for person in job.everybody for path in person.references]
    words += ["--reference", *pictures] if pictures else []
    for person in job.people:
        words += ["--lora", _named(person.name, person.lora)] if person.lora else []
        words += ["--prompt", _named(person.name, person.prompt)] if person.prompt else []
    words += [] if job.learn is None else ["--learn" if job.learn else "--no-learn"]
    words += ["--others", job.others] if job.others else []
    words += ["--aligned"] if job.aligned else []
    words += ["--crop"] if job.crop else []
    words += ["--scale", str(job.scale)] if job.scale != 1 else []
    words += ["--strength", str(job.strength)] if job.strength != 1 else []
    words += ["--face", str(job.face)] if job.face else []
    words += ["--frames", f"{job.part[0]}:{job.part[1]}"] if job.part else []
    return shlex.join([*words, *overrides_of(config)])


def overrides_of(config: Config) -> list[str]:
    """Return the ``key=value`` pairs by which a configuration differs from its preset."""
    default = [] if config.preset == Config.preset else [f"preset={config.preset}"]
    plain = dict(_leaves(config_to_dict(load_config(None, default))))
    changed = {k: v for k, v in _leaves(config_to_dict(config)) if plain.get(k, object()) != v}
    return default + [f"{key}={_value(value)}" for key, value in changed.items()]


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _value(value: Any) -> str:
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT
    return value if plain else json.dumps(value)


def _named(name: str, value: Any) -> str:
    return f"{name}={value}" if name else str(value)
