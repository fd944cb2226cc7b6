"""Strict loading of a config from YAML and the command line: unknown keys and types are errors."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from relearn_jax.config import SCHEMAS, Config
from relearn_jax.errors import UserError

PATHS = (
    "path", "labels_path", "word_list", "vectors", "source", "tokenizer", "questions",
)  # fmt: skip
"""Keys that may hold a path."""
KEYWORDS = {"vectors": "model", "source": "random"}
"""Values of these keys that are never paths, even if a file of that name exists."""
KIND_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file and apply overrides.

    Args:
      path: a YAML file.
      overrides: `a.b=c` strings, `c` in YAML.

    Raises:
      UserError: missing file, invalid YAML, unknown key, wrong type; names the key and a remedy.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such config file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: a config is a mapping of keys to values")
    for override in overrides:
        _override(values, override)
    schema = schema_of(values, str(path))
    config = _located(build(schema, values, str(path), ""), path.resolve().parent)
    if problems := config.problems():
        raise UserError("; ".join(problems))
    return config


def schema_of(values: dict, origin: str) -> type[Config]:
    """The schema of a config by its key `experiment` (default: relearning)."""
    name = values.get("experiment", "relearning")
    if name not in SCHEMAS:
        raise UserError(f"{origin}: experiment = {name!r}; allowed: {', '.join(SCHEMAS)}")
    return SCHEMAS[name]


def _located(value: Any, base: Path, key: str = "") -> Any:
    """Make existing paths absolute: from the config's folder, else from the current folder."""
    if dataclasses.is_dataclass(value):
        parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        kind = parts.get("kind", "")
        named = kind in ("hub", "world") and not (base / parts["path"]).is_dir()
        skipped = ("path",) if named else ()
        return dataclasses.replace(
            value,
            **{k: _located(v, base, k) for k, v in parts.items() if k not in (*skipped, "out")},
        )
    if key in PATHS and value and value != KEYWORDS.get(key):
        for folder in (base, Path.cwd()):
            if (folder / value).exists():
                return str((folder / value).resolve())
    return value


def _override(values: dict, text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--{text}: write --{text}=VALUE")
    *folders, name = key.split(".")
    node = values
    for folder in folders:
        if isinstance(node, dict) and node.get(folder) is None:
            node[folder] = {}
        node = node[folder] if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise UserError(f"--{key}: {folder} is a single value and has no part {name}")
    try:
        node[name] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--{key}={value}: not valid YAML") from error


def build(kind: Any, value: Any, origin: str, key: str, default: Any = None) -> Any:
    """Convert plain YAML data to the annotated type `kind`; `key` is its dotted key.

    Fields missing from a nested mapping keep their values in `default`.
    """
    where = f"{origin}: {key or 'the config'}"
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, origin, key, kind() if default is None else default)
    args, outer = typing.get_args(kind), typing.get_origin(kind)
    if outer in (types.UnionType, typing.Union):
        if type(value) in args:
            return value
        if value is None and type(None) in args:
            return None
        words = [w for a in args if typing.get_origin(a) is Literal for w in typing.get_args(a)]
        if value in words:
            return value
        is_list = isinstance(value, list)
        others = [a for a in args if typing.get_origin(a) is not Literal and a is not type(None)]
        kinds = [a for a in others if (typing.get_origin(a) is tuple) == is_list]
        try:
            return build((kinds or others)[0], value, origin, key)
        except UserError as error:
            if not words:
                raise
            raise UserError(f"{error}, or {' or '.join(words)}") from error
    if outer is Literal:
        if value not in args:
            raise UserError(f"{where} = {value!r}; allowed: {', '.join(map(str, args))}")
        return value
    if outer is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} should be a list like [{value}], not {value!r}")
        return tuple(build(args[0], v, origin, f"{key}[{i}]") for i, v in enumerate(value))
    if outer is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where} should be a mapping, not {value!r}")
        return {str(k): build(args[1], v, origin, f"{key}.{k}") for k, v in value.items()}
    return _scalar(kind, value, where)


def _scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as a string
        except ValueError:
            pass
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a column number
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise UserError(f"{where} should be {KIND_NAMES[kind]}, not {value!r}")
    return value


def _dataclass(kind: type, value: Any, origin: str, key: str, default: Any) -> Any:
    if not isinstance(value, dict):
        raise UserError(f"{origin}: {key} should be a mapping, not {value!r}")
    hints = typing.get_type_hints(kind)
    for name in value:
        if name not in hints:
            similar = difflib.get_close_matches(str(name), hints, 1)
            hint = f"did you mean {similar[0]}?" if similar else f"valid: {', '.join(hints)}"
            raise UserError(f"{origin}: unknown key {key + '.' if key else ''}{name}; {hint}")
    prefix = f"{key}." if key else ""
    changes = {
        n: build(hints[n], v, origin, prefix + str(n), getattr(default, n))
        for n, v in value.items()
    }
    return dataclasses.replace(default, **changes)


def dump(config: Config) -> str:
    """A config as YAML that `load` reads as the same config."""
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """Convert dataclasses and tuples to dicts and lists."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


def differences(a: Any, b: Any, key: str = "") -> list[str]:
    """Dotted keys whose values differ between two plain configs."""
    if isinstance(a, dict) and isinstance(b, dict):
        prefix = f"{key}." if key else ""
        return [d for k in {**a, **b} for d in differences(a.get(k), b.get(k), prefix + str(k))]
    return [] if a == b else [key]
