"""Planned memory and work of a localization, from the programs that it will run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.experiments import environment
from relearn_jax.experiments.facts.setup import Setup
from relearn_jax.localize import questions, selection
from relearn_jax.localize.batch import Pairs, first_position, question
from relearn_jax.localize.localizer import Program, Shapes
from relearn_jax.localize.methods import LOCALIZERS
from relearn_jax.localize.questions import Question
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding

GIB = 2**30


class Estimate(NamedTuple):
    """Planned memory and work of the localization of one seed."""

    params: int
    """Bytes of parameters on each device."""
    temporary: dict[str, int]
    """Further bytes of each program on each device, by XLA's plan, results included."""
    flops: float
    """Operations of the matrix products in blocks, over all devices."""


def make(
    model: Model, pairs: Pairs, probed: Prompts, settings: config.Localize, mesh: Mesh
) -> Estimate:
    """Compile the programs for one seed, from shapes only; nothing is computed."""
    count, length = pairs.clean.ids.shape
    rows = min(settings.batch, count)
    words = question(pairs.clean, pairs.corrupt, settings.corrupt == "swapped").words.shape[1]
    params = param_shapes(model, mesh)
    inputs, question_shape = _shapes(mesh, rows, length, words)
    cache = jax.eval_shape(partial(questions.run, model), params, inputs, question_shape)
    shapes = Shapes(model, params, settings, inputs, question_shape, cache, first_position(pairs))
    # Four runs stay in memory: clean, corrupt, the null's, and the clean run with probabilities.
    caches = 4 * sum(leaf.size * leaf.dtype.itemsize for leaf in cache) // _spread(mesh, rows)
    temporary: dict[str, int] = {}
    blocks = 0.0
    for program in _programs(shapes):
        needed = _needed(program.lowered) + caches
        temporary[program.name] = max(needed, temporary.get(program.name, 0))
        blocks += program.blocks * program.calls
    for name in settings.methods:
        if (reader := LOCALIZERS[name].reader) is not None:
            lowered, further = reader.program(model, len(probed.ids))
            temporary[name] = _needed(lowered) + further
    size = sum(selection.sizes(selection.space(model)).values())
    flops = 2.0 * size * blocks * count * length
    return Estimate(sharding.bytes_per_device(params, mesh), temporary, flops)


def _programs(shapes: Shapes) -> Iterator[Program]:
    lowered = questions.run.lower(shapes.model, shapes.params, shapes.inputs, shapes.question)
    yield Program("a run", lowered, shapes.model.config.layers, 3)
    for name in shapes.settings.methods:
        yield from LOCALIZERS[name].programs(shapes)


def _needed(lowered: jax.stages.Lowered) -> int:
    analysis = lowered.compile().memory_analysis()
    return int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes)


def _spread(mesh: Mesh, rows: int) -> int:
    """Number of devices that the pairs of a batch are split over."""
    return rows // meshes.pairs(mesh, rows).shard_shape((rows,))[0]


def summary(setup: Setup) -> list[str]:
    """Lines on memory and work, for a dry run."""
    environment.say("  planning     compiling what will run; minutes for a large model")
    config, seed = setup.config, setup.config.seeds[0]
    mesh = meshes.make(config.parallel, 1)
    estimate = make(
        setup.decoder.model, setup.pairs[seed], setup.probed[seed], config.localize, mesh
    )
    name, largest = max(estimate.temporary.items(), key=lambda item: item[1])
    where = f"each of {mesh.size} devices" if mesh.size > 1 else "one device"
    return [
        f"  memory       {in_bytes(estimate.params + largest)} on {where}: parameters "
        f"{in_bytes(estimate.params)}, {name} {in_bytes(largest)}",
        f"  work         {in_flops(estimate.flops)} a seed in matrix products of blocks",
    ]


def in_bytes(count: float) -> str:
    """A number of bytes in words."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


def in_flops(count: float) -> str:
    """A number of operations in words."""
    size, unit = next((s, u) for s, u in ((1e15, "P"), (1e12, "T"), (0, "G")) if count >= s)
    return f"{count / (size or 1e9):.3g} {unit}FLOP"


def param_shapes(model: Model, mesh: Mesh) -> Any:
    """Shapes of a model's parameters, placed on the mesh."""
    shapes = jax.eval_shape(lambda: transformer.init(model, jax.random.key(0)))
    places = sharding.shardings(shapes, mesh)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        places,
    )


def _shapes(mesh: Mesh, rows: int, length: int, words: int) -> tuple[Inputs, Question]:
    place = meshes.pairs(mesh, rows)

    def shape_of(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=place)

    inputs = Inputs(shape_of(jnp.int32, length), shape_of(jnp.bool_, length))
    return inputs, Question(
        shape_of(jnp.int32), shape_of(jnp.int32, words), shape_of(jnp.bool_, length)
    )
