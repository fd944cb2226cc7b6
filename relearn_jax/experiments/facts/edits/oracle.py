"""Oracles: models that were never taught the facts to forget, from the same seeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from relearn_jax import loading, runs
from relearn_jax.experiments import rounds
from relearn_jax.experiments.facts import teaching
from relearn_jax.experiments.facts.edits.arms import ORACLE
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.facts.stages import PRETRAINED, stage
from relearn_jax.experiments.rounds import Trainer
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.parallel import mesh as meshes

PyTree = Any


def teach(setup: EditSetup, out: Path, watch: Watcher) -> dict[int, str]:
    """Teach the oracles of all seeds side by side; returns the key of each.

    A phase of teaching without facts to forget is not repeated: its models are those of the
    localization. A phase of which nothing is left
    changes nothing.
    """
    config, localized = setup.config, setup.localization
    seeds, model = config.seeds, setup.model
    mesh = meshes.make(config.parallel, len(seeds))
    members = [localized.facts[seed].world for seed in seeds]
    forgotten = [localized.facts[seed].split.forgotten for seed in seeds]
    keys = [
        runs.key_of(
            "oracle", seed, localized.decoder.sha256, loading.plain(config.teaching),
            loading.plain(config.facts), localized.facts[seed].digest, config.model.dtype,
            facts.tolist(),
        )
        for seed, facts in zip(seeds, forgotten, strict=True)
    ]  # fmt: skip
    trainer = Trainer(out, config, watch, {})
    source: Any = partial(teaching.drawn, model, mesh, seeds, config.teaching.scale)
    planted = bool(config.teaching.plant_layers and config.teaching.plant_steps)
    phases: list[tuple[teaching.Phase, str]] = [("pretrain", ORACLE)]
    if planted:
        phases = [("pretrain", f"{ORACLE}-pretrained"), ("plant", ORACLE)]
        if not any(
            np.isin(facts, world.phases["pretrain"].athletes).any()
            for world, facts in zip(members, forgotten, strict=True)
        ):
            phases = phases[1:]
            names = [stage(seed, PRETRAINED) for seed in seeds]
            source = partial(rounds.from_disk, out, mesh, names)
    for phase, kind in phases:
        names = [stage(seed, kind) for seed in seeds]
        own = [runs.key_of(kind, key) for key in keys]
        plan = teaching.plan(
            model, mesh, members, seeds, config.teaching, phase, names, own, forgotten
        )
        taught = [
            len(np.setdiff1d(world.phases[phase].athletes, facts))
            for world, facts in zip(members, forgotten, strict=True)
        ]
        if rounds.all_finished(out, names, own):
            watch.tick(rounds.total_steps(plan), rounds.place(plan))
        elif not all(taught):
            rounds.save_stages(trainer, plan, source(), [{} for _ in seeds])
            watch.tick(rounds.total_steps(plan), rounds.place(plan))
        else:
            trained = rounds.train(trainer, plan, source)
            rounds.save_stages(trainer, plan, trained.params, [dict(trained.times) for _ in seeds])
        source = partial(rounds.from_disk, out, mesh, names)
    return dict(zip(seeds, keys, strict=True))


def steps(setup: EditSetup) -> int:
    """Largest number of teaching steps of the oracles."""
    teaching_settings = setup.config.teaching
    planted = teaching_settings.plant_steps if teaching_settings.plant_layers else 0
    return len(setup.config.seeds) * (teaching_settings.steps + planted)
