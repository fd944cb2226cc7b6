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

from relearn_jax import loading, runs
from relearn_jax.errors import Stopped
from relearn_jax.experiments.experiment import Experiment
from relearn_jax.experiments.facts import localization, provenance
from relearn_jax.experiments.facts import plan as localized_plan
from relearn_jax.experiments.facts import results as localized
from relearn_jax.experiments.facts import stages as names
from relearn_jax.experiments.facts.edits import (
    arms,
    asked,
    attack,
    exporting,
    inside,
    judging,
    oracle,
    plan,
    results,
    setup,
    shams,
    sweep,
    tables,
    weight_masks,
)
from relearn_jax.experiments.facts.edits.arms import ORACLE, ORIGINAL, EditArm
from relearn_jax.experiments.facts.edits.inside import States
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.facts.localization import Decoder
from relearn_jax.experiments.rounds import Trainer
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.localize import selection
from relearn_jax.localize.selection import Units
from relearn_jax.models import paths
from relearn_jax.models.overlay import Layers
from relearn_jax.parallel import mesh as meshes

PyTree = Any


class Run(NamedTuple):
    """A run in progress."""

    setup: EditSetup
    out: Path
    trainer: Trainer
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
    run = Run(
        setup,
        out,
        Trainer(out, setup.config, watch, {}),
        oracles,
    )
    for seed, decoder in decoders.items():
        _of_seed(run, seed, decoder)


def _of_seed(run: Run, seed: int, decoder: Decoder) -> None:
    """All arms of a seed: first every edit, then weight masks, then every attack."""
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
    choices = arms.choices(run.setup.config, run.setup.model, chosen, seed)
    for name in run.setup.config.weight_masks.arms:
        if name not in choices:
            run.trainer.watch.say(f"seed {seed}: {name} chose nothing, so it has no weight mask")
            continue
        _weight_mask(run, seed, name, choices[name], original)
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
    """Compute the stage of an edited model, unless it is finished; returns its key.

    Args:
      run, seed, arm: of the stage.
      members, keys: all arms that are computed, and the keys of those before this one.
      original: the model before the edit.
    """
    followed = _followed(arm, members)
    key = _edit_key(run, seed, arm, keys[followed] if followed else "", original)
    name = names.edit_stage(seed, arm.name)
    if runs.finished(run.out, name, key) is not None:
        _tick(run, sweep.steps(run.setup.config.edit), name)
        return key
    began = time.perf_counter()
    rows, record, over_time = _changed(run, seed, arm, followed, key, original)
    params = _params(run, seed, arm, record["layers"], rows, original)
    record |= {"kind": arm.kind, "text": sweep.text_loss(run.setup, seed, params)}
    arrays = _measured(run, seed, arm, params, original)
    if over_time is not None:
        arrays["over_time"] = {"inside": over_time}
    record["wall_s"] = round(time.perf_counter() - began, 2)
    runs.save_stage(run.out, name, key, record, arrays | ({"params": rows} if rows else {}))
    return key


def _followed(arm: EditArm, members: list[EditArm]) -> str:
    """The edit that a control follows: shams are measured by the first, and `retain_only` takes the
    setting of the last. Empty for other arms."""
    trained = [member.name for member in members if member.kind == "trained"]
    followed = {"sham": trained[:1], "sham_scaled": trained[:1], "retain_only": trained[-1:]}
    return followed.get(arm.kind, [""])[0]


def _edit_key(run: Run, seed: int, arm: EditArm, followed: str, original: Original) -> str:
    """The key of an edit's stage; `followed` is that of the edit that a control follows."""
    settings, data = run.setup.config, run.setup.localization.facts[seed]
    marked = selection.mask(arm.units or {}, selection.space(run.setup.model)).marked
    masks = [[path, list(rows.shape), np.packbits(rows).tolist()] for path, rows in marked.items()]
    return runs.key_of(
        "edit", arm.kind, seed, sweep.plain(settings.edit), loading.plain(settings.facts),
        data.digest, settings.model.dtype, masks, original.key, followed,
        run.setup.side_digests(seed),
        run.oracles.get(seed) if arm.kind == "oracle" else None,
    )  # fmt: skip


def _changed(
    run: Run, seed: int, arm: EditArm, followed: str, key: str, original: Original
) -> tuple[dict[str, np.ndarray], dict[str, Any], np.ndarray | None]:
    """The rows that an arm changes; their layers and the settings that it tried; and what probes
    read on the way, of an arm that is trained."""
    untried: dict[str, Any] = {"tried": [], "taken": None, "layers": []}
    if arm.kind not in ("trained", "masked", "retain_only"):
        _tick(run, sweep.steps(run.setup.config.edit), names.edit_stage(seed, arm.name))
        if arm.kind not in ("sham", "sham_scaled"):
            return {}, untried, None
        layers, rows = _rows_of(run, names.edit_stage(seed, followed))
        make = shams.sham if arm.kind == "sham" else shams.sham_scaled
        shaken = make(run.setup, seed, layers, rows, original.params)
        return shaken, untried | {"layers": layers}, None
    taken = None
    if arm.kind == "retain_only":
        path = runs.record_file(run.out, names.edit_stage(seed, followed))
        taken = runs.read_json(path)["taken"]
    edited = sweep.edit(
        run.setup, run.trainer, seed, arm, key, original.params, original.probes, taken
    )
    tried = [setting._asdict() for setting in edited.tried]
    record = {"tried": tried, "taken": edited.taken, "layers": edited.layers}
    return edited.rows, record, edited.inside


def _rows_of(run: Run, stage: str) -> tuple[Layers, dict[str, np.ndarray]]:
    """The rows that a finished edit changed, with their layers; empty without an edit."""
    if not runs.has_arrays(run.out, stage, "params"):
        return (), {}
    return results.read_layers(run.out, stage), runs.arrays_of(run.out, stage, "params")


def _measured(
    run: Run, seed: int, arm: EditArm, params: PyTree, original: Original
) -> dict[str, dict[str, np.ndarray]]:
    """What a model answers, and what is read off its states."""
    setup, states, own = run.setup, original.states, original.probes
    if arm.name != ORIGINAL:
        states = inside.states(setup, seed, params)
        own = inside.fitted(setup, seed, states)
    questions = {}
    if setup.questions is not None:
        right = asked.right_choices(setup.model, params, setup.questions)
        questions = {"questions": {"right": right}}
    cells = (own, states), (original.probes, states), (own, original.states)
    read = inside.read(setup, seed, dict(zip(inside.READINGS, cells, strict=True)))
    return {
        "answers": asked.answered(setup.model, params, setup.asked[seed])._asdict(),
        "inside": {
            f"{kind}/{reader}": values
            for kind, by_reader in read._asdict().items()
            for reader, values in by_reader.items()
        },
        "lens": inside.through_lens(setup, seed, params, states),
        "carriers": inside.carried(setup, seed, params)._asdict(),
        **questions,
    }


def _params(
    run: Run,
    seed: int,
    arm: EditArm,
    layers: Layers,
    rows: dict[str, np.ndarray],
    original: Original,
) -> PyTree:
    """The parameters of an edited model on the devices."""
    mesh = meshes.make(run.setup.config.parallel, 1)
    if arm.name == ORACLE:
        whole = runs.arrays_of(run.out, names.stage(seed, ORACLE), "params")
        return paths.unflatten(sweep.placed(whole, mesh))
    return sweep.with_rows(original.params, layers, rows, mesh) if rows else original.params


def _weight_mask(run: Run, seed: int, name: str, units: Units, original: Original) -> None:
    """Compute the stage of the weight mask of a choice, unless it is finished."""
    setup, stage = run.setup, names.mask_stage(seed, name)
    key = weight_masks.key(setup, seed, units, original.key)
    if runs.finished(run.out, stage, key) is not None:
        _tick(run, setup.config.weight_masks.steps, stage)
        return
    began = time.perf_counter()
    layers, mask = weight_masks.train(setup, run.trainer, seed, name, units, key, original.params)
    found = list(weight_masks.zeroed(setup, seed, units, layers, mask, original.params))
    record = {
        "layers": layers,
        "zeroed": [
            {
                "chosen_by": entry.chosen_by, "count": entry.count, "text": entry.text,
                "by_layer": {part: layers.tolist() for part, layers in entry.by_layer.items()},
            }
            for entry in found
        ],
        "wall_s": round(time.perf_counter() - began, 2),
    }  # fmt: skip
    answers = {
        f"{number}/{kind}": values
        for number, entry in enumerate(found)
        for kind, values in entry.answers._asdict().items()
    }
    runs.save_stage(run.out, stage, key, record, {"answers": answers, "mask": mask})


def _attacked(run: Run, seed: int, arm: EditArm, edit_key: str, original: Original) -> None:
    """Compute the stage of an attack on an edited model, unless it is finished."""
    settings = run.setup.config.attack
    key = runs.key_of("attack", edit_key, attack.plain(settings))
    name = names.attack_stage(seed, arm.name)
    members = attack.attackers_of(run.setup)
    if runs.finished(run.out, name, key) is not None:
        _tick(run, len(members) * settings.steps, name)
        return
    layers, rows = _rows_of(run, names.edit_stage(seed, arm.name))
    params = _params(run, seed, arm, layers, rows, original)
    done = attack.run(run.setup, run.trainer, seed, name, key, params, original.probes)
    record = {
        "attackers": [list(member) for member in members],
        "points": list(attack.points(settings)),
        "wall_s": done.wall_s,
    }
    arrays = {
        "attack": {"right": done.right, "injected": done.injected, "inside": done.inside},
        "carriers": done.carriers,
    }
    if settings.bits:
        arrays["rounded"] = {
            f"{bits}/{kind}": values
            for bits in settings.bits
            for kind, values in attack.rounded(run.setup, seed, params, bits)._asdict().items()
        }
    runs.save_stage(run.out, name, key, record, arrays)


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
    masks = setup.config.weight_masks
    each_seed = each * arms.most(setup.config) + len(masks.arms) * masks.steps
    return total + each_seed * len(setup.config.seeds)


EXPERIMENT = Experiment(
    setup=setup.prepare,
    summary=setup.summary,
    plan=lambda setup: [*localized_plan.summary(setup.localization), *plan.summary(setup)],
    steps=steps,
    run=run,
    stages=results.stages,
    meshes=results.meshes,
    sources=lambda setup: provenance.sources(setup.localization),
    reportable=results.reportable,
    tables=tables.write,
    manifest=results.manifest,
    headline=judging.headline,
    exported=exporting.exported,
    memory_remedy=(
        "Give fewer edit.learning_rates and edit.forget_weights, or fewer attack.learning_rates "
        "and attack.seeds, which are computed side by side; lower edit.batch_size, "
        "attack.batch_size or localize.batch; or raise parallel.fsdp on several devices."
    ),
    many_processes=False,
)
