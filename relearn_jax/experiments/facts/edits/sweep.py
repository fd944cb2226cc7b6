"""The edit of an arm: a grid of settings side by side, and the one that is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from relearn_jax import config, hosts, loading, runs
from relearn_jax.config import Editing
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.running_text import RunningText
from relearn_jax.editing import controls
from relearn_jax.editing.objectives import OBJECTIVES
from relearn_jax.evaluation import text
from relearn_jax.experiments import rounds
from relearn_jax.experiments.facts.edits import texts
from relearn_jax.experiments.facts.edits.arms import EditArm
from relearn_jax.experiments.facts.edits.asked import (
    FORGET,
    VALIDATION,
    Asked,
    answered_side_by_side,
    subset,
)
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.rounds import Plan, Trainer
from relearn_jax.localize import selection
from relearn_jax.models import overlay, paths, weights
from relearn_jax.models.masks import Mask
from relearn_jax.models.overlay import Layers
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking
from relearn_jax.training.losses import Loss, Terms, Texts
from relearn_jax.training.step import Batches

PyTree = Any
FORGET_TERM, RETAIN_TERM, PLAIN_TERM = "forget", "retain", "plain"


class Setting(NamedTuple):
    """A point of an edit's grid."""

    learning_rate: float
    forget_weight: float


class Tried(NamedTuple):
    """What a setting of the grid did, on the prompts of the edit's own format."""

    learning_rate: float
    forget_weight: float
    edited: float
    """Share of the facts that are edited."""
    kept: float
    """Mean probability of the right answers to retained facts that no loss holds."""
    finite: bool


class Edited(NamedTuple):
    """The model of an arm after its edit."""

    layers: Layers
    """The layers that were trained."""
    rows: dict[str, np.ndarray]
    """Their leaves [K, ...], by path."""
    tried: tuple[Tried, ...]
    taken: int
    """Index of the setting that is taken."""
    wall_s: float


def grid(edit: config.Edit) -> tuple[Setting, ...]:
    """All settings that an arm tries."""
    return tuple(Setting(*pair) for pair in product(edit.learning_rates, edit.forget_weights))


def steps(edit: config.Edit) -> int:
    """Number of steps of an arm, over all its settings."""
    return len(grid(edit)) * edit.steps * edit.parts


def _terms(
    model: Model, edit: config.Edit, layers: Layers, rows: PyTree, base: PyTree, texts: Texts
) -> Terms:
    """The loss of an edit of some layers of the model `base`, which is also its reference."""
    params = overlay.laid(layers, base, rows)
    names = {FORGET_TERM: edit.forget, RETAIN_TERM: edit.retain}
    if edit.plain_weight:
        names[PLAIN_TERM] = "plain_text"
    return {
        term: OBJECTIVES[name].function(model, params, base, texts) for term, name in names.items()
    }


def edit(
    setup: EditSetup,
    trainer: Trainer,
    mesh: Mesh,
    seed: int,
    arm: EditArm,
    key: str,
    base: PyTree,
    taken: int | None = None,
) -> Edited:
    """Train every setting of an arm, and take one.

    Args:
      setup, trainer: of the run.
      mesh: from `grid_mesh`.
      seed: of the model.
      arm: what may change.
      key: of the arm's stage.
      base: the model before the edit.
      taken: index of the setting to take, for an arm without a loss on the facts to forget.
    """
    settings, asked = setup.config.edit, setup.asked[seed]
    marked = selection.mask(arm.units or {}, selection.space(setup.model))
    layers = overlay.layers_of(marked.marked)
    loss = partial(_terms, sharding.spread(setup.model, mesh), settings, layers)
    plans = [
        _plan(setup, loss, mesh, seed, arm, key, base, marked, layers, part)
        for part in range(settings.parts)
    ]
    rows = paths.unflatten(overlay.rows(base, layers))
    trained, wall_s = stacking.stack(mesh, [rows] * len(grid(settings))), 0.0
    for plan in plans:
        done = rounds.train(trainer, plan, lambda models=trained: models)
        trained, wall_s = done.params, wall_s + done.times["wall_s"]
    own = subset(asked, asked.of(settings.format, FORGET, VALIDATION))
    tried = _tried(setup.model, layers, mesh, base, trained, own, settings)
    chosen = best(tried, settings.matched) if taken is None else taken
    member = paths.flatten(stacking.one_model(mesh, trained, chosen))
    edited = {path: hosts.fetch(leaf) for path, leaf in member.items()}
    for plan in plans:
        rounds.forget_checkpoints(trainer, plan)
    return Edited(layers, edited, tried, chosen, round(wall_s * len(tried), 2))


def _plan(
    setup: EditSetup,
    loss: Loss,
    mesh: Mesh,
    seed: int,
    arm: EditArm,
    key: str,
    base: PyTree,
    marked: Mask,
    layers: Layers,
    part: int,
) -> Plan:
    """The training of all settings on one part of the facts to forget."""
    settings, edit = setup.config, setup.config.edit
    data, members = setup.localization.facts[seed], grid(edit)
    shapes = weights.shapes(setup.model)
    forget = [0.0 if arm.kind == "retain_only" else member.forget_weight for member in members]
    term_weights = {
        FORGET_TERM: forget,
        RETAIN_TERM: [edit.retain_weight] * len(members),
        **({PLAIN_TERM: [edit.plain_weight] * len(members)} if edit.plain_weight else {}),
    }
    return Plan(
        names=[f"seed{seed}-edit-{arm.name}-{part}-{n}" for n in range(len(members))],
        keys=[runs.key_of(key, part, n) for n in range(len(members))],
        shapes={path: (len(chosen), *shapes[path][1:]) for path, chosen in layers},
        mesh=mesh,
        loss=loss,
        settings=training(edit.clip_norm, edit.batch_size, edit.weight_decay),
        steps=edit.steps,
        batches=partial(_batches, data, setup.running[seed], settings, seed, mesh, part),
        seeds=[seed] * len(members),
        streams=list(range(len(members))),
        number=1 + part,
        learning_rates=[member.learning_rate for member in members],
        cosine=True,
        weights=term_weights,
        reference=base,
        shared_reference=True,
        held=_held(marked, layers, mesh, len(members)),
        may_diverge=True,
    )


def training(clip_norm: float, batch_size: int, weight_decay: float = 0.0) -> config.Training:
    """Settings of an optimizer whose learning rates are given apart."""
    return config.Training(
        epochs=1, batch_size=batch_size, learning_rate=1.0, weight_decay=weight_decay,
        clip_norm=clip_norm, dropout=0.0,
    )  # fmt: skip


def _held(marked: Mask, layers: Layers, mesh: Mesh, count: int) -> Mask | None:
    """The entries of trained layers that do not change, of each of `count` models."""
    held = {}
    for path, chosen in layers:
        others = ~marked.marked[path][np.array(chosen)]
        if others.any():
            held[path] = stacking.per_set(mesh, [others] * count)
    return Mask(held) if held else None


def _batches(
    data: FactData,
    running: RunningText | None,
    settings: Editing,
    seed: int,
    mesh: Mesh,
    part: int,
    epoch: int,
    skip: int,
) -> Iterator[Batches]:
    edit = settings.edit
    batches = texts.edit_batches(
        data,
        edit.format,
        texts.parts_of(data.split, edit.parts)[part],
        seed,
        edit.batch_size,
        edit.steps,
        running if edit.plain_weight else None,
    )
    rows = meshes.rows_of(mesh, edit.batch_size).total
    for step, batch in enumerate(batches):
        if step >= skip:
            yield texts.filled(batch, rows)


def _tried(
    model: Model,
    layers: Layers,
    mesh: Mesh,
    base: PyTree,
    rows: PyTree,
    own: Asked,
    settings: config.Edit,
) -> tuple[Tried, ...]:
    answers = answered_side_by_side(model, partial(overlay.laid, layers), mesh, base, rows, own)
    edited = is_edited(answers.says, own, settings.forget)
    forget, retain = (own.of(settings.format, group) for group in (FORGET, VALIDATION))
    return tuple(
        Tried(
            *setting,
            float(edited[c, forget].mean()),
            float(answers.target[c, retain].mean()),
            bool(np.isfinite(answers.target[c]).all()),
        )
        for c, setting in enumerate(grid(settings))
    )


def is_edited(says: np.ndarray, asked: Asked, forget: config.Forget) -> np.ndarray:
    """Whether a fact is edited: the injected answer is given or, if the edit only takes the right
    answer out, the right answer is not."""
    if OBJECTIVES[forget].texts == ("injected",):
        return says == asked.injected
    return says != asked.target


def best(tried: Sequence[Tried], matched: float) -> int:
    """The setting that keeps most among those that edit enough; else the one that edits most.

    Models that are not finite are never taken, unless none is.
    """
    usable = [n for n, setting in enumerate(tried) if setting.finite] or list(range(len(tried)))
    enough = [n for n in usable if tried[n].edited >= matched]
    if enough:
        return max(enough, key=lambda n: tried[n].kept)
    return max(usable, key=lambda n: (tried[n].edited, tried[n].kept))


def with_rows(base: PyTree, layers: Layers, rows: Mapping[str, np.ndarray], mesh: Mesh) -> PyTree:
    """The model `base` with the leaves of some layers replaced."""
    return overlay.filled(layers, base, placed(rows, mesh))


def placed(leaves: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Leaves on the devices, by path."""
    place = sharding.placer(mesh)
    return {path: jax.device_put(leaf, place(path, leaf.shape)) for path, leaf in leaves.items()}


def sham(
    seed: int, layers: Layers, rows: Mapping[str, np.ndarray], base: PyTree
) -> dict[str, np.ndarray]:
    """Rows of the sham: random updates as large as those of an edit."""
    before = overlay.rows(base, layers)
    updates = {path: row - before[path] for path, row in rows.items()}
    drawn = controls.sham(jax.random.fold_in(jax.random.key(seed), 1), updates)
    return {path: np.asarray(before[path] + update) for path, update in drawn.items()}


def text_loss(setup: EditSetup, seed: int, params: PyTree) -> float | None:
    """Loss on running text above its entropy, in nats a token; None without text."""
    running = setup.running[seed]
    if running is None:
        return None
    return text.loss(setup.model, params, running.test) - running.entropy


def plain(settings: config.Edit) -> dict[str, Any]:
    """Settings that an edit depends on, but not which arms there are."""
    outside = ("arms", "controls", "random_draws")
    return {name: value for name, value in loading.plain(settings).items() if name not in outside}


def grid_mesh(settings: Editing) -> Mesh:
    """The mesh of a grid of edits."""
    return meshes.make(settings.parallel, len(grid(settings.edit)))
