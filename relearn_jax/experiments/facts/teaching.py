"""Teaching of the built-in world to a small decoder (specs: mechanistic unlearning 9.2).

In the planted variant, some of the facts are taught to chosen layers only. All seeds are taught
side by side: C models, each with its own world and batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from relearn_jax import config
from relearn_jax.data.batching import TokenBatch
from relearn_jax.data.facts import world as worlds
from relearn_jax.data.facts.world import World
from relearn_jax.experiments.rounds import Plan
from relearn_jax.localize import selection
from relearn_jax.localize.selection import Units
from relearn_jax.models import masks, paths, weights
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.masks import Mask
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import sharding, stacking
from relearn_jax.training import losses
from relearn_jax.training.losses import TASK
from relearn_jax.training.step import Batches

PyTree = Any
Phase = Literal["pretrain", "plant"]
Facts = Int[np.ndarray, " n"]
"""Indices of facts."""


def drawn(model: Model, mesh: Mesh, seeds: Sequence[int], scale: float) -> PyTree:
    """Random parameters [C, ...], by the seed of each model; matrices are multiplied by `scale`."""
    keys = jax.vmap(jax.random.key)(np.uint32(stacking.filled(mesh, list(seeds))))
    shapes = weights.shapes(model)
    leaves = weights.draw(model, keys, shapes, sharding.placer(mesh, sets_axis=True))
    matrix = {path: path.endswith(("kernel", "embedding")) for path in shapes}
    scaled = jax.jit(lambda leaves: {p: x * scale if matrix[p] else x for p, x in leaves.items()})(
        leaves
    )
    return paths.unflatten({path: scaled[path] for path in shapes})


def plan(
    model: Model,
    mesh: Mesh,
    members: Sequence[World],
    seeds: Sequence[int],
    settings: config.Teaching,
    phase: Phase,
    names: Sequence[str],
    keys: Sequence[str],
    leave_out: Sequence[Facts] = (),
) -> Plan:
    """The plan of a phase: teach all facts to all parameters, or planted facts to planted layers.

    Args:
      model, mesh: C models on their devices.
      members, seeds: the world and the seed of each model.
      settings: settings of teaching.
      phase: the phase.
      names, keys: names and keys of the stages of the phase.
      leave_out: facts that each model is never taught; empty: none.
    """
    planting = phase == "plant"
    steps = settings.plant_steps if planting else settings.steps
    left_out = leave_out or [np.empty(0, int)] * len(seeds)
    training = config.Training(
        epochs=1,
        learning_rate=settings.plant_learning_rate if planting else settings.learning_rate,
        weight_decay=settings.weight_decay, clip_norm=settings.clip_norm,
        warmup=settings.warmup, batch_size=settings.batch_size,
    )  # fmt: skip
    full = Plan(
        names=names,
        keys=keys,
        shapes=weights.shapes(model),
        mesh=mesh,
        loss=partial(losses.next_token, sharding.spread(model, mesh)),
        settings=training,
        steps=steps,
        batches=partial(
            _batches, mesh, members, seeds, left_out, settings.batch_size, phase, steps
        ),
        seeds=seeds,
        streams=[0] * len(seeds),
        number=int(planting),
    )
    if not planting:
        return full
    chosen = selection.mask(planted(model, settings) or {}, selection.space(model)).marked
    movable = {path: marked for path, marked in chosen.items() if marked.any()}
    others = masks.complement(Mask(movable)).marked
    held = Mask({p: stacking.per_set(mesh, [rows] * len(seeds)) for p, rows in others.items()})
    return full._replace(held=held, trainable=movable.__contains__)


def planted(model: Model, settings: config.Teaching) -> Units | None:
    """The feed-forward layers that hold the planted facts; None: no facts are planted."""
    if not settings.plant_layers:
        return None
    return {"mlp": np.isin(np.arange(model.config.layers), settings.plant_layers)}


def _batches(
    mesh: Mesh,
    members: Sequence[World],
    seeds: Sequence[int],
    left_out: Sequence[Facts],
    size: int,
    phase: Phase,
    steps: int,
    epoch: int,
    skip: int,
) -> Iterator[Batches]:
    """The batches [C, B, ...] of a phase without the first `skip`; each seed draws its own."""
    streams = [np.random.default_rng((seed, len(phase))) for seed in seeds]
    for step in range(steps):
        lines = [
            _lines(world, rng, size, phase, facts)
            for world, rng, facts in zip(members, streams, left_out, strict=True)
        ]
        if step >= skip:
            yield {TASK: _together(stacking.filled(mesh, lines))}


def _lines(
    world: World, rng: np.random.Generator, size: int, phase: Phase, left_out: Facts
) -> worlds.Batch:
    """A batch of lines. Half of a planting batch repeats earlier facts, to keep the model from
    forgetting them."""
    if phase == "pretrain":
        return worlds.training_batch(world, rng, size, leave_out=left_out)
    parts = [
        worlds.training_batch(world, rng, count, name, left_out)
        for name, count in ((phase, size // 2), ("pretrain", size - size // 2))
    ]
    return worlds.Batch(*(np.concatenate(both) for both in zip(*parts, strict=True)))


def _together(lines: Sequence[worlds.Batch]) -> TokenBatch:
    ids, mask, labels = (np.stack(parts) for parts in zip(*lines, strict=True))
    row = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape[:2])
    return TokenBatch(Inputs(ids, mask), labels, row)
