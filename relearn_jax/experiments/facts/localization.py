"""Guo et al. 2025, first half: where does a decoder look a fact up?

The protocol from top to bottom (specs: mechanistic unlearning 3, 8, 9): a model that knows the
facts, gates that say so, every localizer on the same pairs, components chosen under one budget.
Each stage of a seed is saved whole and reused when the same command is given again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from relearn_jax import config, hosts, loading, runs
from relearn_jax.experiments.facts import gates, localizers, teaching
from relearn_jax.experiments.facts.setup import Prepared
from relearn_jax.localize import probes
from relearn_jax.models import checkpoint, weights
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking

PyTree = Any
CHOICE = ("budget", "granularity", "window", "threshold", "batch")
"""Settings of `Localize` that no effect depends on."""
Tick = Callable[[int, str], None]


class Knowing(NamedTuple):
    """A model that is said to know the facts."""

    key: str
    params: Callable[[], PyTree]


def run(prepared: Prepared, out: Path, tick: Tick) -> None:
    """Localize the facts of every seed, into a run directory."""
    taught = prepared.config.facts.kind == "world"
    models = _taught(prepared, out, tick) if taught else _read(prepared)
    for seed, knowing in models.items():
        _localized(prepared, out, seed, knowing, tick)


def stage(seed: int, name: str) -> str:
    """Folder of a stage."""
    return f"seed{seed}-{name}"


def _read(prepared: Prepared) -> dict[int, Knowing]:
    """The weights as they are, one and the same for every seed."""
    mesh = meshes.make(prepared.config.parallel, 1)

    def params() -> PyTree:
        key = jax.random.key(0)
        place = sharding.placer(mesh)
        return checkpoint.load(prepared.checkpoint, prepared.model, key, place)[0]

    return dict.fromkeys(prepared.config.seeds, Knowing(prepared.weights_sha256, params))


def _taught(prepared: Prepared, out: Path, tick: Tick) -> dict[int, Knowing]:
    """Models of random weights, taught the built-in world side by side; gates are enforced."""
    settings, model = prepared.config, prepared.model
    keys = {
        seed: runs.key_of(
            "taught", seed, prepared.weights_sha256, loading.plain(settings.teaching),
            loading.plain(settings.facts), prepared.facts[seed].digest, settings.model.dtype,
        )
        for seed in settings.seeds
    }  # fmt: skip
    done = all(runs.finished(out, stage(s, "model"), k) is not None for s, k in keys.items())
    if done:
        tick(_steps(prepared), "teaching")
    else:
        mesh = meshes.make(settings.parallel, len(settings.seeds))
        members = [prepared.facts[seed].world for seed in settings.seeds]
        began = time.perf_counter()
        params = teaching.teach(model, mesh, members, settings.seeds, settings.teaching, tick)
        wall = round((time.perf_counter() - began) / len(settings.seeds), 2)
        for c, (seed, world) in enumerate(zip(settings.seeds, members, strict=True)):
            one = stacking.one_model(mesh, params, c)
            found = gates.knowledge(model, one, world, seed)
            host = {path: hosts.fetch(leaf) for path, leaf in weights.flatten(one).items()}
            record = {"gates": [_plain(gate) for gate in found], "wall_s": wall}
            runs.save_stage(out, stage(seed, "model"), keys[seed], record, {"params": host})

    for seed in settings.seeds:
        _enforce(prepared, out, stage(seed, "model"), seed)

    def params_of(seed: int) -> Callable[[], PyTree]:
        def params() -> PyTree:
            place = sharding.placer(meshes.make(settings.parallel, 1))
            read = runs.arrays_of(out, stage(seed, "model"), "params")
            return weights.unflatten(
                {path: jax.device_put(leaf, place(path, leaf.shape)) for path, leaf in read.items()}
            )

        return params

    return {seed: Knowing(key, params_of(seed)) for seed, key in keys.items()}


def _localized(prepared: Prepared, out: Path, seed: int, knowing: Knowing, tick: Tick) -> None:
    model, pairs = prepared.model, prepared.pairs[seed]
    settings, data = prepared.config.localize, prepared.facts[seed]
    key = runs.key_of(
        "localized", knowing.key, seed, _read_by_localizers(settings), data.digest,
        loading.plain(prepared.config.facts), prepared.config.model.dtype,
    )  # fmt: skip
    name = stage(seed, "localized")
    if runs.finished(out, name, key) is not None:
        tick(len(pairs.facts), "localizing")
        _enforce(prepared, out, name, seed)
        return
    began = time.perf_counter()
    params = knowing.params()
    asked = pairs.clean, pairs.corrupt, pairs.again
    right = teaching.accuracy(model, params, pairs.clean)
    mesh = meshes.make(prepared.config.parallel, 1)
    found = localizers.effects(model, params, *asked, settings, seed, tick, mesh)
    record: dict[str, Any] = {"accuracy": float(right.mean())}
    if "paths" in settings.methods:
        heads, more = localizers.lookup_by_paths(model, params, *asked, found, settings, mesh)
        found |= more
        record["extraction_heads"] = [[int(layer), int(head)] for layer, head in heads]
    arrays = {"effects": found}
    if "probes" in settings.methods:
        arrays["probes"] = _probed(prepared, params, seed)
    checked = []
    if data.world is not None:
        if "interchange" in found:
            checked += gates.interchange(found["interchange"], *_ends(pairs.clean))
        if "probes" in arrays:
            chance = prepared.chance(seed)
            checked.append(gates.shuffled_probes(arrays["probes"], chance))
    record["gates"] = [_plain(gate) for gate in checked]
    record["wall_s"] = round(time.perf_counter() - began, 2)
    files = {
        file: {k: np.asarray(v, np.float32) for k, v in some.items()}
        for file, some in arrays.items()
    }
    runs.save_stage(out, name, key, record, files)
    _enforce(prepared, out, name, seed)


def _plain(gate: gates.Gate) -> dict[str, Any]:
    return gate._asdict() | {"value": float(gate.value), "limit": float(gate.limit)}


def _enforce(prepared: Prepared, out: Path, name: str, seed: int) -> None:
    """Only once a stage is saved, so that nothing need be done again to be looked at."""
    if prepared.config.gates == "enforce":
        record = runs.read_json(runs.stage_folder(out, name) / "stage.json")
        gates.enforce([gates.Gate(**gate) for gate in record["gates"]], f"seed {seed}")


def _read_by_localizers(settings: config.Localize) -> dict[str, Any]:
    """What the stage depends on: not what is only read when components are chosen."""
    plain = loading.plain(settings)
    return {k: v for k, v in plain.items() if k not in CHOICE}


def _probed(prepared: Prepared, params: PyTree, seed: int) -> dict[str, np.ndarray]:
    asked = prepared.probed[seed]
    found: dict[str, np.ndarray] = {}
    for where, at in (("subject", _last_of_subject(asked)), ("last", asked.last)):
        readable = probes.readable(prepared.model, params, asked, at, seed)
        found |= {
            f"{where}/{name}": np.asarray(value) for name, value in readable._asdict().items()
        }
    return found


def _last_of_subject(asked: Any) -> np.ndarray:
    width = asked.subject.shape[1]
    return width - 1 - np.argmax(asked.subject[:, ::-1], axis=1)


def _ends(asked: Any) -> tuple[int, int]:
    """The subject's last position and the prompt's, which prompts of one template share."""
    return int(_last_of_subject(asked)[0]), int(asked.last[0])


def _steps(prepared: Prepared) -> int:
    teaching = prepared.config.teaching
    planted = bool(teaching.plant_layers)
    return len(prepared.config.seeds) * (teaching.steps + planted * teaching.plant_steps)


def total(prepared: Prepared) -> int:
    """Ticks of a whole run: steps of teaching and pairs."""
    taught = _steps(prepared) if prepared.config.facts.kind == "world" else 0
    return taught + sum(len(pairs.facts) for pairs in prepared.pairs.values())
