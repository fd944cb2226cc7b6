"""Guo et al. 2025, first half: where does a decoder look a fact up?

The protocol from top to bottom (specs: mechanistic unlearning 3, 8, 9): a model that knows the
facts, gates that check this, every localizer on the same pairs, and a choice of components under
one budget. Each finished stage of a seed is saved, and reused when the same command is run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from relearn_jax import config, loading, runs
from relearn_jax.errors import Stopped
from relearn_jax.evaluation import facts
from relearn_jax.experiments import rounds
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
from relearn_jax.experiments.facts.stages import (
    CHOICE,
    EFFECTS,
    MODEL,
    stage,
    stages,
    taught_stages,
)
from relearn_jax.experiments.rounds import Trainer
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.localize import choice, effects, measure, recovery, selection
from relearn_jax.localize.methods import CHOOSING
from relearn_jax.models import checkpoint, paths
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking

PyTree = Any
Tick = Callable[[int, str], None]
Params = Callable[[], PyTree]


class Decoder(NamedTuple):
    """A model that should know the facts."""

    key: str
    """Key of the stage, or digest of the weights, that the parameters come from."""
    params: Params


def run(setup: Setup, out: Path, watch: Watcher) -> dict[int, Decoder]:
    """Localize the facts of every seed, and save the stages in a run directory.

    Returns the decoder of each seed.
    """
    decoders = _taught(setup, out, watch) if setup.config.taught else _read(setup)
    tick = _stopping_tick(watch)
    for seed, decoder in decoders.items():
        key = _measured(setup, out, seed, decoder, tick)
        _chosen(setup, out, seed, key)
    return decoders


def _stopping_tick(watch: Watcher) -> Tick:
    """A tick that raises Stopped once the watcher asks to stop."""

    def tick(done: int, text: str) -> None:
        watch.tick(done, text)
        if watch.stop():
            raise Stopped(f"stopped while {text}; finished stages are kept")

    return tick


def _read(setup: Setup) -> dict[int, Decoder]:
    """The pretrained weights, the same for every seed."""
    decoder = setup.decoder

    def params() -> PyTree:
        place = sharding.placer(meshes.make(setup.config.parallel, 1))
        return checkpoint.load(decoder.checkpoint, decoder.model, jax.random.key(0), place)[0]

    return dict.fromkeys(setup.config.seeds, Decoder(decoder.sha256, params))


def _taught(setup: Setup, out: Path, watch: Watcher) -> dict[int, Decoder]:
    """Decoders of random weights, taught the built-in world side by side, with enforced gates."""
    config, model, seeds = setup.config, setup.decoder.model, setup.config.seeds
    mesh = meshes.make(config.parallel, len(seeds))
    worlds = [setup.facts[seed].world for seed in seeds]
    trainer = Trainer(out, config, watch, {})
    keys = [
        runs.key_of(
            "taught", seed, setup.decoder.sha256, loading.plain(config.teaching),
            loading.plain(config.facts), setup.facts[seed].digest, config.model.dtype,
        )
        for seed in seeds
    ]  # fmt: skip

    def teach(kind: str, phase: teaching.Phase, start: Params) -> Params:
        """Teach for one phase, unless its stages are finished; returns its parameters."""
        stage_keys = [runs.key_of(kind, key) for key in keys]
        names = [stage(seed, kind) for seed in seeds]
        plan = teaching.plan(model, mesh, worlds, seeds, config.teaching, phase, names, stage_keys)
        if rounds.all_finished(out, names, stage_keys):
            watch.tick(rounds.total_steps(plan), rounds.place(plan))
        else:
            trained = rounds.train(trainer, plan, start)
            records: list[dict[str, Any]] = [dict(trained.times) for _ in seeds]
            if kind == MODEL:
                for c, record in enumerate(records):
                    record["gates"] = _knowledge(setup, mesh, trained.params, c)
            rounds.save_stages(trainer, plan, trained.params, records)
        return partial(rounds.from_disk, out, mesh, names)

    params: Params = partial(teaching.drawn, model, mesh, seeds, config.teaching.scale)
    for kind, phase in zip(taught_stages(config), ("pretrain", "plant"), strict=False):
        params = teach(kind, phase, params)
    for seed in seeds:
        _enforce(config, out, seed, MODEL)
    return {
        seed: Decoder(key, partial(_saved, setup, out, seed))
        for seed, key in zip(seeds, keys, strict=True)
    }


def _knowledge(setup: Setup, mesh: Mesh, params: PyTree, index: int) -> list[dict[str, Any]]:
    """The gates on taught model `index` of C, as plain data."""
    seed = setup.config.seeds[index]
    taught = stacking.one_model(mesh, params, index)
    world = setup.facts[seed].world
    return [gate.plain() for gate in gates.knowledge(setup.decoder.model, taught, world, seed)]


def _saved(setup: Setup, out: Path, seed: int) -> PyTree:
    """The parameters of the taught model of a seed."""
    place = sharding.placer(meshes.make(setup.config.parallel, 1))
    leaves = runs.arrays_of(out, stage(seed, MODEL), "params")
    placed = {path: jax.device_put(leaf, place(path, leaf.shape)) for path, leaf in leaves.items()}
    return paths.unflatten(placed)


def _measured(setup: Setup, out: Path, seed: int, decoder: Decoder, tick: Tick) -> str:
    """Compute the stage of a seed's effects, unless it is finished; returns its key."""
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
    record: dict[str, Any] = {"accuracy": float(facts.correct(model, params, pairs.clean).mean())}
    mesh = meshes.make(setup.config.parallel, 1)
    measured, records = measure.effects(model, params, pairs, settings, seed, tick, mesh)
    readings = measure.readings(model, params, setup.probed[seed], settings, seed)
    arrays = {"effects": effects.to_arrays(measured), **readings}
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
    """Compute the stage of a seed's choices by all localizers and baselines, unless finished."""
    settings = setup.config.localize
    plain = {k: v for k, v in loading.plain(settings).items() if k in CHOOSING}
    # The stage also says how well the planted layers are found.
    key = runs.key_of("choice", effects_key, plain, setup.config.teaching.plant_layers)
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
        "methods": [arm.name for arm in chosen.units],
        "parameters": {
            arm.name: selection.parameter_count(units, space) for arm, units in chosen.units.items()
        },
        "wall_s": round(time.perf_counter() - began, 2),
    }
    arrays = {"units": choice.to_arrays(chosen)}
    planted = teaching.planted(setup.decoder.model, setup.config.teaching)
    if planted is not None:
        found = recovery.recover(scores, planted["mlp"], space, seed)
        arrays["found"] = recovery.to_arrays(found)
    reference = planted or choice.stand_in(chosen)
    if reference is not None:
        arrays["reference"] = reference
    runs.save_stage(out, name, key, record, arrays)


def _enforce(settings: config.Localization, out: Path, seed: int, kind: str) -> None:
    """Enforce the gates of a saved stage: a stage that fails them can be inspected."""
    if settings.gates == "enforce":
        record = runs.read_json(runs.record_file(out, stage(seed, kind)))
        gates.enforce([gates.Gate(**gate) for gate in record["gates"]], f"seed {seed}")


def teaching_steps(setup: Setup) -> int:
    """Number of teaching steps over all seeds; 0 if the facts are not taught."""
    config = setup.config
    planted = config.teaching.plant_steps if config.teaching.plant_layers else 0
    return config.taught * len(config.seeds) * (config.teaching.steps + planted)


def steps(setup: Setup) -> int:
    """Number of steps of a run: teaching steps and pairs."""
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
    memory_remedy=(
        "Lower localize.batch, or raise parallel.fsdp on several devices, and continue with "
        "--reuse. A lower teaching.batch_size also helps, but teaches again."
    ),
    many_processes=False,
)
