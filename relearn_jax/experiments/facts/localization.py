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

from relearn_jax import config, loading, runs
from relearn_jax.errors import Stopped
from relearn_jax.experiments.experiment import Experiment
from relearn_jax.experiments.facts import (
    exporting,
    gates,
    plan,
    provenance,
    results,
    setup,
    tables,
    teaching,
)
from relearn_jax.experiments.facts.setup import Setup
from relearn_jax.experiments.facts.stages import CHOICE, EFFECTS, MODEL, stage, stages
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.localize import choice, effects, measure, probes, selection
from relearn_jax.models import checkpoint, paths
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking

PyTree = Any
CHOOSING = ("budget", "granularity", "window", "threshold")
"""Settings of `Localize` that only the choice of components depends on."""
Tick = Callable[[int, str], None]


class Decoder(NamedTuple):
    """A model that is said to know the facts."""

    key: str
    """Of the stage, or of the weights, that the parameters come from."""
    params: Callable[[], PyTree]


def run(setup: Setup, out: Path, watch: Watcher) -> None:
    """Localize the facts of every seed, into a run directory."""
    tick = _obedient(watch)
    decoders = _taught(setup, out, tick) if setup.config.taught else _read(setup)
    for seed, decoder in decoders.items():
        key = _measured(setup, out, seed, decoder, tick)
        _chosen(setup, out, seed, key)


def _obedient(watch: Watcher) -> Tick:
    """A tick that ends the run when somebody asks for it."""

    def tick(done: int, text: str) -> None:
        watch.tick(done, text)
        if watch.stop():
            raise Stopped(f"stopped while {text}; the stages before are kept")

    return tick


def _read(setup: Setup) -> dict[int, Decoder]:
    """The weights as they are, one and the same for every seed."""
    decoder = setup.decoder

    def params() -> PyTree:
        place = sharding.placer(meshes.make(setup.config.parallel, 1))
        return checkpoint.load(decoder.checkpoint, decoder.model, jax.random.key(0), place)[0]

    return dict.fromkeys(setup.config.seeds, Decoder(decoder.sha256, params))


def _taught(setup: Setup, out: Path, tick: Tick) -> dict[int, Decoder]:
    """Models of random weights, taught the built-in world side by side; gates are enforced."""
    settings, model = setup.config, setup.decoder.model
    keys = {
        seed: runs.key_of(
            "taught", seed, setup.decoder.sha256, loading.plain(settings.teaching),
            loading.plain(settings.facts), setup.facts[seed].digest, settings.model.dtype,
        )
        for seed in settings.seeds
    }  # fmt: skip
    done = all(runs.finished(out, stage(s, MODEL), k) is not None for s, k in keys.items())
    if done:
        tick(teaching_steps(setup), "teaching")
    else:
        mesh = meshes.make(settings.parallel, len(settings.seeds))
        worlds = [setup.facts[seed].world for seed in settings.seeds]
        began = time.perf_counter()
        params = teaching.teach(model, mesh, worlds, settings.seeds, settings.teaching, tick)
        wall = round((time.perf_counter() - began) / len(settings.seeds), 2)
        for c, (seed, world) in enumerate(zip(settings.seeds, worlds, strict=True)):
            taught = stacking.one_model(mesh, params, c)
            passed = gates.knowledge(model, taught, world, seed)
            record = {"gates": [gate.plain() for gate in passed], "wall_s": wall}
            arrays = {"params": jax.device_get(paths.flatten(taught))}
            runs.save_stage(out, stage(seed, MODEL), keys[seed], record, arrays)
    for seed in settings.seeds:
        _enforce(settings, out, seed, MODEL)

    def params_of(seed: int) -> Callable[[], PyTree]:
        def params() -> PyTree:
            place = sharding.placer(meshes.make(settings.parallel, 1))
            saved = runs.arrays_of(out, stage(seed, MODEL), "params")
            placed = {p: jax.device_put(x, place(p, x.shape)) for p, x in saved.items()}
            return paths.unflatten(placed)

        return params

    return {seed: Decoder(key, params_of(seed)) for seed, key in keys.items()}


def _measured(setup: Setup, out: Path, seed: int, decoder: Decoder, tick: Tick) -> str:
    """The stage of a seed's effects; its key."""
    settings, model = setup.config.localize, setup.decoder.model
    pairs, data = setup.pairs[seed], setup.facts[seed]
    plain = {k: v for k, v in loading.plain(settings).items() if k not in (*CHOOSING, "batch")}
    key = runs.key_of(
        "effects", decoder.key, seed, plain, data.digest,
        loading.plain(setup.config.facts), setup.config.model.dtype,
    )  # fmt: skip
    name = stage(seed, EFFECTS)
    if runs.finished(out, name, key) is not None:
        tick(len(pairs.facts), "localizing")
        _enforce(setup.config, out, seed, EFFECTS)
        return key
    began = time.perf_counter()
    params = decoder.params()
    record: dict[str, Any] = {
        "accuracy": float(teaching.accuracy(model, params, pairs.clean).mean())
    }
    mesh = meshes.make(setup.config.parallel, 1)
    measured, records = measure.effects(model, params, pairs, settings, seed, tick, mesh)
    arrays = {"effects": effects.to_arrays(measured)}
    readings = None
    if "probes" in settings.methods:
        readings = probes.readings(model, params, setup.probed[seed], seed)
        arrays["probes"] = probes.to_arrays(readings)
    checked = gates.localization(measured, readings, pairs.clean) if data.world else []
    record |= {
        "records": records,
        "gates": [gate.plain() for gate in checked],
        "wall_s": round(time.perf_counter() - began, 2),
    }
    runs.save_stage(out, name, key, record, arrays)
    _enforce(setup.config, out, seed, EFFECTS)
    return key


def _chosen(setup: Setup, out: Path, seed: int, effects_key: str) -> None:
    """The stage of what every localizer and baseline chooses from a seed's effects."""
    settings = setup.config.localize
    plain = {k: v for k, v in loading.plain(settings).items() if k in CHOOSING}
    key = runs.key_of("choice", effects_key, plain)
    name = stage(seed, CHOICE)
    if runs.finished(out, name, key) is not None:
        return
    began = time.perf_counter()
    measured, readings = results.read_effects(out, seed)
    space = selection.space(setup.decoder.model)
    scores = results.all_scores(measured, readings, seed)
    chosen = choice.choose(scores, measured, space, settings, seed)
    record = {
        "budget": chosen.budget,
        "methods": list(chosen.units),
        "parameters": {
            method: selection.parameter_count(units, space)
            for method, units in chosen.units.items()
        },
        "wall_s": round(time.perf_counter() - began, 2),
    }
    runs.save_stage(out, name, key, record, {"units": choice.to_arrays(chosen)})


def _enforce(settings: config.Localization, out: Path, seed: int, kind: str) -> None:
    """Only once a stage is saved, so that nothing need be done again to be looked at."""
    if settings.gates == "enforce":
        record = runs.read_json(runs.record_file(out, stage(seed, kind)))
        gates.enforce([gates.Gate(**gate) for gate in record["gates"]], f"seed {seed}")


def teaching_steps(setup: Setup) -> int:
    """Steps of teaching, of all seeds; 0 where the facts are not taught."""
    config = setup.config
    planted = config.teaching.plant_steps if config.teaching.plant_layers else 0
    return config.taught * len(config.seeds) * (config.teaching.steps + planted)


def steps(setup: Setup) -> int:
    """Steps of a whole run: of teaching, and pairs."""
    return teaching_steps(setup) + sum(len(pairs.facts) for pairs in setup.pairs.values())


EXPERIMENT = Experiment(
    setup=setup.prepare,
    summary=setup.summary,
    plan=plan.summary,
    steps=steps,
    run=run,
    stages=lambda setup: stages(setup.config),
    meshes=provenance.meshes,
    sources=provenance.sources,
    reportable=results.reportable,
    tables=tables.write,
    manifest=provenance.manifest,
    headline=results.headline,
    exported=exporting.exported,
    many_processes=False,
)
