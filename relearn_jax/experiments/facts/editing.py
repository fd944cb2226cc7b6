"""Guo et al. 2025, second half: take a fact out where it is looked up. Is it gone?

The protocol from top to bottom (specs: mechanistic unlearning 4 to 9): a localization; edits of
what each localizer chose, each tuned by itself, beside controls; every fact asked in every format;
probes of what is left inside; and an attack that relearns one half of the facts and is scored on
the other. Each finished stage is saved, and reused when the same command is run again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from relearn_jax import loading, runs
from relearn_jax.errors import Stopped
from relearn_jax.experiments.experiment import Experiment
from relearn_jax.experiments.facts import localization, plan, provenance
from relearn_jax.experiments.facts import results as localized
from relearn_jax.experiments.facts import stages as names
from relearn_jax.experiments.facts.edits import (
    arms,
    asked,
    attack,
    inside,
    judging,
    oracle,
    results,
    setup,
    sweep,
    tables,
)
from relearn_jax.experiments.facts.edits.arms import ORACLE, ORIGINAL, EditArm
from relearn_jax.experiments.facts.edits.inside import States
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.facts.localization import Decoder
from relearn_jax.experiments.rounds import Trainer
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.localize import selection
from relearn_jax.parallel import mesh as meshes
from relearn_jax.training.losses import Loss

PyTree = Any


class Run(NamedTuple):
    """A run in progress. The losses are shared by all arms, and so are the compiled steps."""

    setup: EditSetup
    out: Path
    trainer: Trainer
    grid: Mesh
    edit_loss: Loss
    attackers: Mesh
    attack_loss: Loss
    oracles: dict[int, str]
    """The key of each seed's oracle; empty without oracles."""


class Original(NamedTuple):
    """The model of a seed before any edit."""

    key: str
    params: PyTree
    states: States
    probes: dict[str, Any]


def run(setup: EditSetup, out: Path, watch: Watcher) -> None:
    """Localize, edit, ask and attack for every seed; save the stages in a run directory."""
    decoders = localization.run(setup.localization, out, watch)
    oracles = oracle.teach(setup, out, watch) if "oracle" in setup.config.edit.controls else {}
    grid = sweep.grid_mesh(setup.config)
    attackers = attack.mesh_of(setup)
    run = Run(
        setup,
        out,
        Trainer(out, setup.config, watch, {}),
        grid,
        sweep.make_loss(setup, grid),
        attackers,
        attack.make_loss(setup, attackers),
        oracles,
    )
    for seed, decoder in decoders.items():
        _of_seed(run, seed, decoder)


def _of_seed(run: Run, seed: int, decoder: Decoder) -> None:
    """All arms of a seed: first every edit, then every attack."""
    chosen = localized.read_choice(run.out, seed)
    members = arms.arms(run.setup.config, run.setup.model, chosen, seed)
    lead = arms.leaders(members, selection.space(run.setup.model))
    for name in run.setup.config.edit.arms:
        if name not in lead:
            run.trainer.watch.say(f"seed {seed}: {name} chose nothing, so it has no arm")
    computed = [arm for arm in members if lead[arm.name] == arm.name]
    params = decoder.params()
    states = inside.states(run.setup, seed, params)
    original = Original(decoder.key, params, states, inside.fitted(run.setup, seed, states))
    keys: dict[str, str] = {}
    for arm in computed:
        keys[arm.name] = _edited(run, seed, arm, computed, keys, original)
    for arm in computed:
        _attacked(run, seed, arm, keys[arm.name], original)


def _edited(
    run: Run,
    seed: int,
    arm: EditArm,
    members: list[EditArm],
    keys: dict[str, str],
    original: Original,
) -> str:
    """Compute the stage of an edited model, unless it is finished; returns its key."""
    settings, data = run.setup.config, run.setup.localization.facts[seed]
    marked = selection.mask(arm.units or {}, selection.space(run.setup.model)).marked
    depends: list[Any] = [original.key]
    if arm.kind in ("sham", "retain_only"):
        # The sham is as large as the first edit; the other takes the setting of the last.
        depends += [keys[_model_of(arm, members)]]
    if arm.kind == "oracle":
        depends += [run.oracles[seed]]
    key = runs.key_of(
        "edit", arm.kind, seed, sweep.plain(settings.edit), loading.plain(settings.facts),
        data.digest, settings.model.dtype,
        [[path, list(rows.shape), np.packbits(rows).tolist()] for path, rows in marked.items()],
        *depends,
    )  # fmt: skip
    name = names.edit_stage(seed, arm.name)
    if runs.finished(run.out, name, key) is not None:
        _tick(run, sweep.steps(settings.edit), name)
        return key
    began = time.perf_counter()
    record: dict[str, Any] = {"kind": arm.kind, "tried": [], "taken": None}
    leaves: dict[str, np.ndarray] = {}
    if arm.kind in ("trained", "retain_only"):
        taken = None
        if arm.kind == "retain_only":
            taken = _record(run, seed, _model_of(arm, members))["taken"]
        edited = sweep.edit(
            run.setup, run.trainer, run.edit_loss, run.grid, seed, arm, key, original.params, taken
        )
        leaves, record["taken"] = edited.leaves, edited.taken
        record["tried"] = [
            {**tried.setting._asdict(), "edited": tried.edited, "kept": tried.kept,
             "finite": tried.finite}
            for tried in edited.tried
        ]  # fmt: skip
    else:
        _tick(run, sweep.steps(settings.edit), name)
    if arm.kind == "sham":
        of_edit = runs.arrays_of(run.out, names.edit_stage(seed, members[1].name), "params")
        leaves = sweep.sham(run.setup, seed, of_edit, original.params)
    params = _params(run, seed, arm, leaves, original)
    answers = asked.answered(run.setup.model, params, run.setup.asked[seed])
    record["text"] = sweep.text_loss(run.setup, seed, params)
    states = original.states if arm.name == ORIGINAL else inside.states(run.setup, seed, params)
    own = original.probes if arm.name == ORIGINAL else inside.fitted(run.setup, seed, states)
    read = inside.read(run.setup, seed, states, {"own": own, "original": original.probes})
    record["wall_s"] = round(time.perf_counter() - began, 2)
    arrays: dict[str, dict[str, np.ndarray]] = {
        "answers": answers._asdict(),
        "inside": {
            f"{kind}/{reader}": values
            for kind, by_reader in read._asdict().items()
            for reader, values in by_reader.items()
        },
    }
    arrays["lens"] = inside.through_lens(run.setup, seed, params, states)
    if leaves:
        arrays["params"] = leaves
    runs.save_stage(run.out, name, key, record, arrays)
    return key


def _model_of(arm: EditArm, members: list[EditArm]) -> str:
    """The trained arm that a control follows: the first for a sham, else the last."""
    trained = [member.name for member in members if member.kind == "trained"]
    return trained[0] if arm.kind == "sham" else trained[-1]


def _params(
    run: Run, seed: int, arm: EditArm, leaves: dict[str, np.ndarray], original: Original
) -> PyTree:
    """The parameters of an edited model on the devices."""
    mesh = meshes.make(run.setup.config.parallel, 1)
    if arm.name == ORACLE:
        whole = runs.arrays_of(run.out, names.stage(seed, ORACLE), "params")
        return sweep.with_leaves({}, whole, mesh)
    return sweep.with_leaves(original.params, leaves, mesh) if leaves else original.params


def _attacked(run: Run, seed: int, arm: EditArm, edit_key: str, original: Original) -> None:
    """Compute the stage of an attack on an edited model, unless it is finished."""
    settings = run.setup.config.attack
    key = runs.key_of("attack", edit_key, attack.plain(settings))
    name = names.attack_stage(seed, arm.name)
    members = attack.attackers_of(run.setup)
    if runs.finished(run.out, name, key) is not None:
        _tick(run, len(members) * settings.steps, name)
        return
    edit = names.edit_stage(seed, arm.name)
    leaves = {}
    if runs.has_arrays(run.out, edit, "params"):
        leaves = runs.arrays_of(run.out, edit, "params")
    params = _params(run, seed, arm, leaves, original)
    done = attack.run(
        run.setup, run.trainer, run.attack_loss, run.attackers, seed, name, key, params
    )
    record = {
        "attackers": [list(member) for member in members],
        "points": list(attack.points(settings)),
        "wall_s": done.wall_s,
    }
    arrays = {"attack": {"right": done.right, "injected": done.injected}}
    if settings.bits:
        arrays["rounded"] = {
            f"{bits}/{kind}": values
            for bits in settings.bits
            for kind, values in attack.rounded(run.setup, seed, params, bits)._asdict().items()
        }
    runs.save_stage(run.out, name, key, record, arrays)


def _record(run: Run, seed: int, arm: str) -> dict[str, Any]:
    return runs.read_json(runs.record_file(run.out, names.edit_stage(seed, arm)))


def _tick(run: Run, count: int, name: str) -> None:
    watch = run.trainer.watch
    watch.tick(count, name.replace("-", ", "))
    if watch.stop():
        raise Stopped(f"stopped before {name}; finished stages are kept")


def steps(setup: EditSetup) -> int:
    """Number of steps of a run, at most: teaching, pairs, edits and attacks."""
    edit, attacks = setup.config.edit, setup.config.attack
    each = sweep.steps(edit) + len(attack.attackers_of(setup)) * attacks.steps
    total = localization.steps(setup.localization)
    total += oracle.steps(setup) if "oracle" in edit.controls else 0
    return total + each * arms.most(setup.config) * len(setup.config.seeds)


EXPERIMENT = Experiment(
    setup=setup.prepare,
    summary=setup.summary,
    plan=lambda setup: plan.summary(setup.localization),
    steps=steps,
    run=run,
    stages=results.stages,
    meshes=results.meshes,
    sources=lambda setup: provenance.sources(setup.localization),
    reportable=results.reportable,
    tables=tables.write,
    manifest=results.manifest,
    headline=judging.headline,
    exported=results.exported,
    memory_remedy=(
        "Give fewer edit.learning_rates and edit.forget_weights, or fewer attack.learning_rates "
        "and attack.seeds, which are computed side by side; lower edit.batch_size, "
        "attack.batch_size or localize.batch; or raise parallel.fsdp on several devices."
    ),
    many_processes=False,
)
