"""YAML and command line to `Config`, strictly: unknown keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from relearn_jax.config import Config, Localization, Training
from relearn_jax.errors import UserError

PATHS = (
    "path", "labels_path", "word_list", "vectors", "source", "tokenizer", "questions",
)  # fmt: skip
"""Keys that may hold a path."""
KEYWORDS = {"vectors": "model", "source": "random"}
"""What they may say instead of a path, whatever lies beside the config."""
KIND_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def load(path: Path, overrides: Sequence[str] = ()) -> Config | Localization:
    """Read a config file and apply overrides.

    Args:
      path: a YAML file.
      overrides: `a.b=c` strings, `c` in YAML.

    Raises:
      UserError: file missing, not YAML, unknown key, wrong type; names the key and a remedy.
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
    kind = experiment(values, str(path))
    config = _located(build(kind, values, str(path), ""), path.resolve().parent)
    check_localization(config) if kind is Localization else check(config)
    return config


def experiment(values: dict, origin: str) -> type[Config] | type[Localization]:
    """Which schema a config follows."""
    known = {"relearning": Config, "localization": Localization}
    name = values.get("experiment", "relearning")
    if name not in known:
        raise UserError(f"{origin}: experiment = {name!r}; allowed: {', '.join(known)}")
    return known[name]


def _located(value: Any, base: Path, key: str = "") -> Any:
    """Paths made absolute where they lead somewhere: from the config's folder, else from here."""
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
    """Convert plain YAML data to the annotated type `kind`; `key` is where we are.

    What a nested mapping leaves out keeps its value in `default`.
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
        listed = isinstance(value, list)
        kinds = [a for a in args if (typing.get_origin(a) is tuple) == listed]
        return build(next(a for a in kinds or args if a is not type(None)), value, origin, key)
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
            near = difflib.get_close_matches(str(name), hints, 1)
            hint = f"did you mean {near[0]}?" if near else f"valid: {', '.join(hints)}"
            raise UserError(f"{origin}: unknown key {key + '.' if key else ''}{name}; {hint}")
    at = f"{key}." if key else ""
    given = {
        n: build(hints[n], v, origin, at + str(n), getattr(default, n)) for n, v in value.items()
    }
    return dataclasses.replace(default, **given)


def check(config: Config) -> None:
    """Refuse combinations that cannot work, before anything is computed."""
    prune, concepts = config.prune, config.concepts
    problems = []
    if prune.count is None and not 0 < prune.fraction <= 1:
        problems.append(f"prune.fraction = {prune.fraction}: should be in (0, 1]")
    if prune.count is not None and prune.count < 1:
        problems.append(f"prune.count = {prune.count}: should be at least 1")
    if (prune.target == "mlp_unit") != (concepts.site == "mlp"):
        problems.append(
            "prune.target mlp_unit goes with concepts.site mlp, and the other targets with states"
        )
    if prune.target == "state_mask" and prune.regrowth == "free":
        problems.append(
            "prune.target state_mask removes a neuron in every forward pass, so nothing can "
            "regrow: set prune.regrowth: frozen"
        )
    if prune.embedding_state == "faithful" and prune.target in ("state_mask", "mlp_unit"):
        problems.append("prune.embedding_state faithful goes with the ln_gain targets only")
    if "concept" not in config.arms:
        problems.append("arms must contain concept; the others are its controls")
    if not config.seeds:
        problems.append("seeds is empty")
    for name, values in (("seeds", config.seeds), ("arms", config.arms)):
        if len(set(values)) != len(values):
            problems.append(f"{name} names one twice")
    if max(config.data.buckets, default=0) < config.model.max_length:
        problems.append("data.buckets: the largest must reach model.max_length")
    for name, training in (("training", config.training), ("retrain", retraining(config))):
        if training.learning_rate <= 0 or training.epochs < 1 or training.batch_size < 1:
            problems.append(f"{name}: learning_rate, epochs and batch_size must be positive")
        if training.clip_norm <= 0 or training.weight_decay < 0 or not 0 <= training.warmup < 1:
            problems.append(f"{name}: clip_norm > 0, weight_decay >= 0 and warmup in [0, 1)")
    if config.training.dropout is not None and not 0 <= config.training.dropout < 1:
        problems.append(f"training.dropout = {config.training.dropout}: should be in [0, 1)")
    if config.tracking.batch_size < 1 or config.tracking.top_k < 1:
        problems.append("tracking.batch_size and tracking.top_k must be positive")
    if min(config.seeds, default=0) < 0:
        problems.append("seeds must not be negative")
    if max(config.seeds, default=0) >= 2**32:
        problems.append("seeds must be below 2**32 = 4294967296")
    if min(config.data.buckets, default=1) < 1:
        problems.append("data.buckets must be positive")
    if config.retrain.rounds < 1:
        problems.append("retrain.rounds must be at least 1")
    if concepts.labels == "list" and not concepts.word_list:
        problems.append("concepts.labels list needs concepts.word_list")
    problems += _check_sets(config) + _check_devices(config)
    if problems:
        raise UserError("; ".join(problems))


def check_localization(config: Localization) -> None:
    """Refuse combinations that cannot work, before anything is computed."""
    localize, teaching, problems = config.localize, config.teaching, []
    world = config.facts.kind == "world"
    drawn = config.model.source == "random"
    if world and not drawn:
        problems.append(
            "facts.kind world is taught to random weights (model.source: random), and here is "
            f"model.source {config.model.source!r}"
        )
    if drawn and not world and teaching.steps:
        problems.append(
            f"model.source random does not know facts.kind {config.facts.kind!r}; name weights "
            "that do, or set teaching.steps: 0 to measure time and memory on weights as drawn"
        )
    if drawn and not world and not config.model.tokenizer:
        problems.append("model.source random has no tokenizer: name one in model.tokenizer")
    checked = localize.corrupt == "swapped" and {"patching", "probes"} <= set(localize.methods)
    if world and config.gates == "enforce" and not checked:
        problems.append(
            "the gates of facts.kind world need localize.corrupt: swapped, and patching and probes "
            "among localize.methods; or set gates: report"
        )
    if (config.facts.world.variant == "planted") != bool(teaching.plant_layers):
        problems.append("teaching.plant_layers goes with facts.world.variant planted")
    for name in ("pairs", "batch", "groups", "draws", "path_steps", "heads"):
        if getattr(localize, name) < 1:
            problems.append(f"localize.{name} must be at least 1")
    if teaching.steps < world or teaching.plant_steps < 0 or teaching.batch_size < 2:
        problems.append("teaching: steps and batch_size must be positive, plant_steps at least 0")
    if localize.probed < 10:
        problems.append("localize.probed must be at least 10")
    if localize.budget is not None and not 0 < localize.budget <= 1:
        problems.append(f"localize.budget = {localize.budget}: should be in (0, 1]")
    if localize.budget is None and "probes" not in localize.methods:
        problems.append(
            "localize.budget null means as much as fact lookup by probes chooses: add probes to "
            "localize.methods, or give a budget"
        )
    if not 0 < localize.window <= 1:
        problems.append(f"localize.window = {localize.window}: should be in (0, 1]")
    if not localize.methods:
        problems.append("localize.methods is empty")
    for name, values in (("seeds", config.seeds), ("localize.methods", localize.methods)):
        if len(set(values)) != len(values):
            problems.append(f"{name} names one twice")
    if not config.seeds or min(config.seeds) < 0 or max(config.seeds) >= 2**32:
        problems.append("seeds: one or more, from 0 to 2^32 - 1")
    if problems:
        raise UserError("; ".join(problems))


def _check_sets(config: Config) -> list[str]:
    sets, problems = config.sets, []
    for name in ("concepts", "fractions", "regrowth"):
        values = getattr(sets, name)
        if len(set(values)) != len(values):
            problems.append(f"sets.{name} names one twice")
    problems += [
        f"sets.fractions: {fraction} should be in (0, 1]"
        for fraction in sets.fractions
        if not 0 < fraction <= 1
    ]
    if sets.fractions and config.prune.count is not None:
        problems.append("sets.fractions and prune.count cannot both say how many are pruned")
    if config.prune.target == "state_mask" and "free" in sets.regrowth:
        problems.append("sets.regrowth: with prune.target state_mask nothing can regrow freely")
    if config.concepts.labels == "list" and set(sets.concepts) - {config.concepts.target}:
        problems.append("sets.concepts: a word list has one concept, concepts.target")
    if sets.chunk is not None and sets.chunk < 1:
        problems.append("sets.chunk must be at least 1")
    return problems


def _check_devices(config: Config) -> list[str]:
    parallel, problems = config.parallel, []
    axes = {name: getattr(parallel, name) or 1 for name in ("sets", "data", "fsdp", "tensor")}
    problems += [
        f"parallel.{axis} must be at least 1 (or null)"
        for axis, size in axes.items()
        if size < 1 or getattr(parallel, axis) == 0
    ]
    if config.checkpoint.every < 1 or config.checkpoint.keep < 1:
        problems.append("checkpoint.every and checkpoint.keep must be at least 1")
    for name, training in (("training", config.training), ("retrain", retraining(config))):
        if training.accumulate < 1 or training.batch_size % max(training.accumulate, 1):
            problems.append(f"{name}: batch_size must be a multiple of training.accumulate")
    if (config.model.source == "random") != bool(config.model.settings):
        problems.append("model.settings goes with model.source random, and that needs it")
    if config.model.source == "random" and not config.model.tokenizer:
        problems.append("model.source random needs model.tokenizer")
    return problems


def retraining(config: Config) -> Training:
    """The training settings of a retraining round."""
    given = {
        name: getattr(config.retrain, name)
        for name in ("learning_rate", "batch_size", "weight_decay", "warmup")
        if getattr(config.retrain, name) is not None
    }
    return dataclasses.replace(config.training, epochs=config.retrain.epochs, **given)


def dump(config: Config) -> str:
    """YAML that `load` reads back to the same config."""
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """Dataclasses and tuples to dicts and lists."""
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
        at = f"{key}." if key else ""
        return [d for k in {**a, **b} for d in differences(a.get(k), b.get(k), at + str(k))]
    return [] if a == b else [key]
