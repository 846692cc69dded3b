"""Composing a configuration.

A configuration is a preset (``ipfvr/presets/<name>.yaml``), the differences of an experiment file on
top of it, and ``key=value`` pairs from the command line on top of both. An unknown or ill-typed key is
an error that names the key and the nearest valid one.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ipfvr.core.errors import UserError
from ipfvr.core.folders import PACKAGE
from ipfvr.core.options import Config

PRESETS = PACKAGE / "presets"


def load_config(path: str | Path | None = None, overrides: list[str] | None = None) -> Config:
    """Compose a configuration: preset, then experiment file, then ``key=value`` pairs.

    Args:
        path: an experiment YAML (its ``preset`` key names the preset, default ``mini``), or None.
        overrides: pairs such as ``["sampler.steps=8", "preset=tiny"]``.

    Raises:
        UserError: a file that is missing or not YAML, an unknown or ill-typed key; the line names
            the key and the nearest valid one.

    Examples:
        >>> config = load_config(overrides=["preset=tiny", "sampler.steps=3"])
        >>> config.preset, config.sampler.steps
        ('tiny', 3)
        >>> load_config(overrides=["sampler.step=3"])
        Traceback (most recent call last):
        ipfvr.core.errors.UserError: command line: unknown key 'sampler.step'; the nearest valid one is 'sampler.steps'
    """
    layers = []
    if path is not None:
        layers.append((str(path), _read_yaml(Path(path))))
    given = OmegaConf.create({})
    for pair in overrides or []:
        key, equals, _ = pair.partition("=")
        if not equals or not key:
            raise UserError(f"'{pair}' is not of the form key=value (for example sampler.steps=8)")
        try:
            # OmegaConf reads "key=" as null, which no option is: it is the empty string here.
            given.merge_with_dotlist([pair if pair != key + "=" else f"{key}=''"])
        except Exception as error:
            raise UserError(f"'{pair}' cannot be read: {error}") from None
    layers.append(("command line", given))
    preset = next((str(layer.preset) for _, layer in reversed(layers) if "preset" in layer), Config.preset)
    file = PRESETS / f"{preset}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise UserError(f"unknown preset '{preset}': known ones are {known}")
    config = _preset(file)
    for source, layer in layers:
        config = _merged(config, layer, source)
    config.preset = preset
    return OmegaConf.to_object(config)  # type: ignore[return-value]


@lru_cache(maxsize=8)
def _preset(file: Path) -> Any:
    """Return the options with a preset's differences; merging copies it."""
    return _merged(OmegaConf.structured(Config), _read_yaml(file), str(file))


def _merged(config: Any, layer: Any, source: str) -> Any:
    _check_keys(layer, Config, source)
    try:
        return OmegaConf.merge(config, layer)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        reason = str(error).splitlines()[0]
        raise UserError(f"{source}: key '{key}' has the wrong type: {reason}") from None


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return the configuration as plain dictionaries, for the JSON beside a result."""
    return OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)  # type: ignore[return-value]


def load_yaml(path: Path, what: str) -> Any:
    """Return the content of a YAML file.

    Args:
        path: of the file.
        what: it is, for the error.

    Raises:
        UserError: no such file, or not YAML.
    """
    if not path.is_file():
        raise UserError(f"no {what} {path}")
    try:
        return OmegaConf.load(path)
    except Exception as error:
        raise UserError(f"{path} is not YAML: {str(error).splitlines()[0]}") from None


def _read_yaml(path: Path) -> Any:
    layer = load_yaml(path, "configuration file")
    if not OmegaConf.is_dict(layer):
        if not layer:
            return OmegaConf.create({})
        raise UserError(f"{path} must hold keys and values, not a list")
    return layer


def _check_keys(layer: Any, schema: type, source: str, prefix: str = "") -> None:
    known = {f.name: f for f in fields(schema)}
    for key in layer:
        if key not in known:
            near = nearest_key(prefix + str(key))
            raise UserError(f"{source}: unknown key '{prefix}{key}'; the nearest valid one is '{near}'")
        sub, named = _section(schema, known[key].name), _entries(schema, known[key].name)
        if named is not None and OmegaConf.is_dict(layer[key]):
            for name in layer[key]:
                if not OmegaConf.is_dict(layer[key][name]):
                    raise UserError(f"{source}: write {prefix}{key}.{name}.<option>=value")
                _check_keys(layer[key][name], named, source, f"{prefix}{key}.{name}.")
        choices = _choices(schema, known[key].name)
        if choices is not None:
            layer[key] = _checked_choice(layer[key], choices, f"{source}: {prefix}{key}")
        if sub is not None:
            if not OmegaConf.is_dict(layer[key]):
                raise UserError(f"{source}: key '{prefix}{key}' is a section: write {prefix}{key}.<option>=value")
            _check_keys(layer[key], sub, source, f"{prefix}{key}.")


def nearest_key(key: str) -> str:
    """Return the valid key most like a wrong one, by its whole name or by its last part alone.

    Examples:
        >>> nearest_key("sampler.stepps")
        'sampler.steps'
    """

    def likeness(valid: str) -> float:
        pairs = [(key, valid), (key.rpartition(".")[2], valid.rpartition(".")[2])]
        return max(difflib.SequenceMatcher(None, a, b).ratio() for a, b in pairs)

    by_name = ((f.name, _entries(Config, f.name)) for f in fields(Config))
    named = [key for name, schema in by_name if schema is not None for key in all_keys(schema, f"{name}.NAME.")]
    return max([*all_keys(), *named], key=likeness)


def all_keys(schema: type = Config, prefix: str = "") -> list[str]:
    """Return the full name of each option, such as ``sampler.steps``, except in sections that the user names."""
    keys: list[str] = []
    for f in fields(schema):
        if _entries(schema, f.name) is None:
            sub = _section(schema, f.name)
            keys += all_keys(sub, f"{prefix}{f.name}.") if sub is not None else [prefix + f.name]
    return keys


def _section(schema: type, name: str) -> type | None:
    """Return the dataclass of an option that is a section, else None."""
    hint = _hints(schema)[name]
    return hint if is_dataclass(hint) else None


def _choices(schema: type, name: str) -> type[StrEnum] | None:
    """Return the names among which an option is a choice, else None."""
    hint = _hints(schema)[name]
    return hint if isinstance(hint, type) and issubclass(hint, StrEnum) else None


def _checked_choice(value: Any, choices: type[StrEnum], option: str) -> str:
    """Return one of the names, as text: YAML reads some of them as numbers."""
    text, known = str(value), [str(choice) for choice in choices]
    if text in known:
        return text
    near = max(known, key=lambda name: difflib.SequenceMatcher(None, text, name).ratio())
    raise UserError(f"{option} is '{text}'; the nearest valid one is '{near}', all are {', '.join(known)}")


def _entries(schema: type, name: str) -> type | None:
    """Return the dataclass of the values of an option that holds sections by name, else None."""
    arguments = get_args(_hints(schema)[name])
    return arguments[1] if len(arguments) == 2 and is_dataclass(arguments[1]) else None


_hints = lru_cache(get_type_hints)
