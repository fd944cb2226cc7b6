"""A small decoder is taught the built-in world; in the planted variant, a part of it into chosen
layers alone (specs: mechanistic unlearning 9.2).

All seeds are taught side by side: C models, each with its own world and its own batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax import config
from relearn_jax.data.batching import TokenBatch
from relearn_jax.data.facts import world as worlds
from relearn_jax.data.facts.world import World
from relearn_jax.localize import selection
from relearn_jax.localize.selection import Units
from relearn_jax.models import paths, transformer, weights
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import drivers, sharding, stacking
from relearn_jax.training import loop, optimizer
from relearn_jax.training.step import Round, start

PyTree = Any


def teach(
    model: Model,
    mesh: Mesh,
    members: Sequence[World],
    seeds: Sequence[int],
    settings: config.Teaching,
    tick: Callable[[int, str], None],
) -> PyTree:
    """Parameters [C, ...] of one model for each world, drawn and taught by its seed.

    Raises:
      UserError: a loss is not finite.
    """
    keys = jax.vmap(jax.random.key)(np.uint32(stacking.filled(mesh, list(seeds))))
    shapes = weights.shapes(model)
    drawn = weights.draw(model, keys, shapes, sharding.placer(mesh, sets_axis=True))
    matrix = {path: path.endswith(("kernel", "embedding")) for path in shapes}
    scaled = jax.jit(
        lambda leaves: {p: x * settings.scale if matrix[p] else x for p, x in leaves.items()}
    )
    leaves = scaled(drawn)
    params = paths.unflatten({path: leaves[path] for path in shapes})
    run = partial(_phase, model, mesh, members, seeds, settings, tick)
    params = run(params, "pretrain", settings.steps, settings.learning_rate, None)
    if "plant" not in members[0].phases or not settings.plant_steps:
        return params
    times = selection.multipliers(planted(model, settings), selection.space(model))
    move = {path: jnp.broadcast_to(rows, (len(keys), *rows.shape)) for path, rows in times.items()}
    return run(params, "plant", settings.plant_steps, settings.plant_learning_rate, move)


def planted(model: Model, settings: config.Teaching) -> Units:
    """The feed-forward layers that hold the planted facts."""
    return {"mlp": np.isin(np.arange(model.config.layers), settings.plant_layers)}


def _phase(
    model: Model,
    mesh: Mesh,
    members: Sequence[World],
    seeds: Sequence[int],
    settings: config.Teaching,
    tick: Callable[[int, str], None],
    params: PyTree,
    phase: str,
    steps: int,
    rate: float,
    trainable: dict[str, jax.Array] | None,
) -> PyTree:
    training = config.Training(
        learning_rate=rate, weight_decay=settings.weight_decay, clip_norm=settings.clip_norm,
        warmup=settings.warmup, batch_size=settings.batch_size,
    )  # fmt: skip
    direction = optimizer.direction(training)
    step = drivers.make("jit", mesh, model, direction)
    state = jax.jit(jax.vmap(lambda one: start(one, direction)), donate_argnums=0)(params)
    streams = [np.random.default_rng((seed, len(phase))) for seed in seeds]
    round_ = Round(
        optimizer.schedule(training, steps),
        jax.vmap(jax.random.key)(np.uint32(stacking.filled(mesh, list(seeds)))),
        trainable=trainable,
    )
    for _ in range(steps):
        drawn = [
            _drawn(world, rng, settings.batch_size, phase)
            for world, rng in zip(members, streams, strict=True)
        ]
        state, sums = step(state, _together(stacking.filled(mesh, drawn)), round_)
        tick(len(members), f"teaching, {phase}")
    loop.check_finite(sums.bad_step, [f"seed {seed}, {phase}" for seed in seeds])
    return state.params


def _drawn(world: World, rng: np.random.Generator, size: int, phase: str) -> worlds.Batch:
    """A batch; while facts are planted half of it is what was taught before, or it is forgotten."""
    if phase == "pretrain":
        return worlds.training_batch(world, rng, size)
    parts = [
        worlds.training_batch(world, rng, count, name)
        for name, count in ((phase, size // 2), ("pretrain", size - size // 2))
    ]
    return worlds.Batch(*(np.concatenate(both) for both in zip(*parts, strict=True)))


def _together(drawn: Sequence[worlds.Batch]) -> TokenBatch:
    ids, mask, labels = (np.stack(parts) for parts in zip(*drawn, strict=True))
    row = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape[:2])
    return TokenBatch(Inputs(ids, mask), labels, row)


def accuracy(model: Model, params: PyTree, prompts: Any, batch: int = 256) -> np.ndarray:
    """Whether the most likely of all words is the answer, for every prompt."""
    found = []
    for begin in range(0, len(prompts.ids), batch):
        some = slice(begin, begin + batch)
        said = _said(
            model, params, Inputs(prompts.ids[some], prompts.mask[some]), prompts.last[some]
        )
        found.append(np.asarray(said) == prompts.target[some])
    return np.concatenate(found)


@partial(jax.jit, static_argnums=0)
def _said(model: Model, params: PyTree, inputs: Inputs, last: jax.Array) -> jax.Array:
    h, _ = transformer.hidden(model, params, inputs)
    h = jnp.take_along_axis(h, last[:, None, None], axis=1)
    return jnp.argmax(transformer.head(model, params, h)[:, 0], axis=-1)


def text_loss(model: Model, params: PyTree, world: World, seed: int, lines: int = 256) -> float:
    """Mean cross-entropy on lines of random text that nobody was taught, in nats a token."""
    from relearn_jax.training import losses

    drawn = worlds.text_batch(world, np.random.default_rng((seed, 7)), lines)
    batch = TokenBatch(Inputs(drawn.ids, drawn.mask), drawn.labels, np.arange(lines))
    total, count = jax.jit(partial(losses.of_model, model))(params, batch)
    return float(total / count)
