"""Planned memory and work of edits and attacks, from the programs that will run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from relearn_jax import config
from relearn_jax.editing import adapters
from relearn_jax.editing.objectives import OBJECTIVES
from relearn_jax.experiments.facts import plan
from relearn_jax.experiments.facts.edits import attack, program, sweep, texts
from relearn_jax.experiments.facts.edits.attack import AttackLoss
from relearn_jax.experiments.facts.edits.loss import EditLoss, terms_of
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.localize import selection
from relearn_jax.localize.selection import Space, Units
from relearn_jax.models import paths
from relearn_jax.models.overlay import Layers
from relearn_jax.parallel import drivers, sharding
from relearn_jax.parallel import mesh as meshes
from relearn_jax.training import optimizer
from relearn_jax.training.losses import Loss
from relearn_jax.training.optimizer import Schedule
from relearn_jax.training.step import Batches, Round, start

PyTree = Any


class Cost(NamedTuple):
    """Memory and work of a step of some models side by side."""

    base: int
    """Bytes of the shared model on each device."""
    trained: int
    """Bytes of trained parameters and their moments on each device."""
    temporary: int
    """Gradients and activations on each device, by XLA's plan."""
    flops: float
    """Operations of the matrix products in blocks, over all devices."""

    @property
    def total(self) -> int:
        """Bytes on each device."""
        return self.base + self.trained + self.temporary


def summary(setup: EditSetup) -> list[str]:
    """Lines on memory and work, for a dry run."""
    space = selection.space(setup.model)
    few = localized(setup)
    named = {
        f"{few['mlp'].sum()} feed-forward layers": few,
        "all feed-forward layers": selection.everything(space, ("mlp",)),
        "all matrices": selection.everything(space, tuple(space.matrices)),
    }
    lines = []
    for name, units in named.items():
        layers = program.layers(selection.mask(units, space), space, setup.config.edit)
        lines.append(_line(f"edit of {name}", of_edit(setup, layers)))
    return [*lines, _line("attack", of_attack(setup))]


def _line(name: str, cost: Cost) -> str:
    parts = [("model", cost.base), ("trained", cost.trained), ("step", cost.temporary)]
    listed = ", ".join(f"{part} {plan.in_bytes(size)}" for part, size in parts)
    return (
        f"  {'memory':<13}{name}: {plan.in_bytes(cost.total)} on each device ({listed}), "
        f"{plan.in_flops(cost.flops)} a step"
    )


def localized(setup: EditSetup) -> Units:
    """As many early feed-forward layers as a budget buys; of an open budget five, or half."""
    space, budget = selection.space(setup.model), setup.config.localize.budget
    size = selection.sizes(space)["mlp"]
    count = min(5, max(space.layers // 2, 1))
    if budget is not None:
        total = space.layers * sum(selection.sizes(space).values())
        count = math.ceil((budget * total if budget <= 1 else budget) / size)
    return {"mlp": np.arange(space.layers) < count}


def of_edit(setup: EditSetup, layers: Layers) -> Cost:
    """An edit of some layers, with as many settings side by side as the config says."""
    edit, seed = setup.config.edit, setup.config.seeds[0]
    count = len(sweep.chunks(len(sweep.grid(edit)), edit.side_by_side)[0])
    mesh = meshes.make(setup.config.parallel, count)
    shapes = selection.space(setup.model).shapes
    trained = {path: (len(chosen), *shapes[path][1:]) for path, chosen in layers}
    data, running = setup.localization.facts[seed], setup.running[seed]
    batches = next(
        texts.edit_batches(
            data, edit.format, data.split.forget, seed, edit.batch_size, 1,
            running if edit.plain_weight else None,
        )
    )  # fmt: skip
    loss = EditLoss(sharding.spread(setup.model, mesh), edit, layers)
    used = {name: batches[name] for name in batches if name in _texts_of(edit)}
    first = min(chosen[0] for _, chosen in layers)
    space = selection.space(setup.model)
    work = _work(space, _tokens(used), count, first, sum(map(math.prod, trained.values())))
    return _cost(setup, mesh, loss, edit, trained, used, tuple(terms_of(edit)), count, work)


def _texts_of(edit: config.Edit) -> set[str]:
    return {text for name in terms_of(edit).values() for text in OBJECTIVES[name].texts}


def of_attack(setup: EditSetup) -> Cost:
    """An attack, with as many attackers side by side as the config says."""
    settings, seed = setup.config.attack, setup.config.seeds[0]
    members = attack.attackers_of(setup)
    count = len(sweep.chunks(len(members), settings.side_by_side)[0])
    mesh = meshes.make(setup.config.parallel, count)
    space = selection.space(setup.model)
    rank = settings.rank if settings.adapter == "lora" else None
    trained = adapters.shapes(space.shapes, rank)
    data, running = setup.localization.facts[seed], setup.running[seed]
    (batches,) = next(
        texts.attack_batches(
            data, settings.formats[0], [data.split.forget], [0], settings.batch_size, 1,
            running if settings.plain_weight else None,
        )
    )  # fmt: skip
    each = jax.tree.map(lambda x: np.broadcast_to(x, (count, *np.shape(x))), batches)
    loss = AttackLoss(
        sharding.spread(setup.model, mesh), attack.attach_of(settings), bool(settings.plain_weight)
    )
    work = _work(space, _tokens(batches), count, 0, sum(map(math.prod, trained.values())))
    return _cost(setup, mesh, loss, settings, trained, each, tuple(batches), count, work)


def _tokens(batches: Batches) -> int:
    return sum(math.prod(np.shape(batch.labels)) for batch in batches.values())


def _work(space: Space, tokens: int, count: int, first: int, trained: int) -> float:
    """Forward below the first trained layer once, above it forward and backward for each model."""
    block = sum(selection.sizes(space).values())
    above = (space.layers - first) * block
    return 2.0 * tokens * (first * block + count * (2 * above + trained))


def _cost(
    setup: EditSetup,
    mesh: Mesh,
    loss: Loss,
    part: config.Edit | config.Attack,
    trained: Mapping[str, tuple[int, ...]],
    batches: Batches,
    terms: tuple[str, ...],
    count: int,
    work: float,
) -> Cost:
    """Compile the step from shapes only; nothing is computed."""
    settings, padded = sweep.training(part), meshes.padded(count, mesh)
    direction = optimizer.direction(settings)
    leaves = {p: jax.ShapeDtypeStruct((padded, *s), jnp.float32) for p, s in trained.items()}
    state = jax.eval_shape(
        lambda params: jax.vmap(partial(start, optimizer=direction))(params),
        paths.unflatten(leaves),
    )
    base = plan.param_shapes(setup.model, mesh)
    rows = meshes.rows_of(mesh, part.batch_size, part.accumulate).total
    of_sets = NamedSharding(mesh, P(meshes.SETS))

    def values() -> Round:
        schedule = Schedule(*(jnp.zeros(padded) for _ in Schedule._fields))
        keys = jax.vmap(jax.random.key)(jnp.arange(padded))
        return Round(schedule, keys, {term: jnp.zeros(padded) for term in terms})

    round_ = _placed(jax.eval_shape(values), of_sets)._replace(reference=base)

    of_each = next(iter(batches.values())).labels.ndim == 3

    def shape_of(x: Any) -> jax.ShapeDtypeStruct:
        shape = (padded, rows, *x.shape[2:]) if of_each else (rows, *x.shape[1:])
        return jax.ShapeDtypeStruct(shape, x.dtype, sharding=meshes.rows(mesh, of_each))

    body = drivers.body(loss, direction, settings.accumulate, ("reference",))
    places = sharding.shardings(state, mesh, sets_axis=True)
    lowered = drivers.over_mesh(mesh, body).lower(
        _placed(state, places), jax.tree.map(shape_of, batches), round_
    )
    analysis = lowered.compile().memory_analysis()
    return Cost(
        sharding.bytes_per_device(base, mesh),
        sum(sharding.bytes_per_device(tree, mesh, True) for tree in (state.params, state.moments)),
        int(analysis.temp_size_in_bytes),
        work,
    )


def _placed(tree: PyTree, places: Any) -> PyTree:
    if isinstance(places, NamedSharding):
        places = jax.tree.map(lambda _, to=places: to, tree)
    return jax.tree.map(
        lambda x, to: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=to), tree, places
    )
