"""Memory and work of a localization before it starts, from the programs it will run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax import config
from relearn_jax.evaluation import probes
from relearn_jax.experiments.facts.localizers import DONOR, STREAM, first_position, pair
from relearn_jax.experiments.facts.setup import Prepared
from relearn_jax.localize import attribution, patching, paths, questions, selection, tracing
from relearn_jax.localize.probes import FOLDS
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding

GIB = 2**30


class Program(NamedTuple):
    """One compiled program of a localization."""

    name: str
    lowered: jax.stages.Lowered
    blocks: float
    """Passes through one block of a whole prompt that one call makes for each pair; a backward one
    counts as two, or three if the block is computed again."""
    calls: int
    """For each batch of pairs."""


class Plan(NamedTuple):
    """What a localization of one seed needs."""

    params: int
    """Bytes of parameters on each device."""
    temporary: dict[str, int]
    """Bytes that each program needs besides, on each device: XLA's plan, with results."""
    flops: float
    """Of matrix products in blocks, over all devices."""


def make(prepared: Prepared, mesh: Mesh) -> Plan:
    """Compile what will run, from shapes alone; nothing is computed."""
    model, settings = prepared.model, prepared.config.localize
    seed = prepared.config.seeds[0]
    asked = prepared.pairs[seed]
    pairs, length = asked.clean.ids.shape
    rows = min(settings.batch, pairs)
    first = first_position(asked.clean, asked.corrupt, asked.again)
    words = pair(asked.clean, asked.corrupt, settings.corrupt == "swapped").question.words.shape[1]
    params = _params(model, mesh)
    inputs, question = _asked(mesh, rows, length, words)
    cache = jax.eval_shape(partial(questions.run, model), params, inputs, question)
    # Clean, corrupt, the null's, and the clean run with probabilities stay while others are made.
    kept = 4 * sum(leaf.size * leaf.dtype.itemsize for leaf in cache) // _spread(mesh, rows)
    temporary, blocks = {}, 0.0
    for program in programs(model, params, settings, inputs, question, cache, first):
        needed = _needed(program.lowered) + kept
        temporary[program.name] = max(needed, temporary.get(program.name, 0))
        blocks += program.blocks * program.calls
    size = sum(selection.sizes(selection.space(model)).values())
    if "probes" in settings.methods:
        temporary["probes"] = _probes_bytes(model, len(prepared.probed[seed].ids))
    flops = 2.0 * size * blocks * pairs * length
    return Plan(sharding.bytes_per_device(params, mesh), temporary, flops)


def _needed(lowered: jax.stages.Lowered) -> int:
    analysis = lowered.compile().memory_analysis()
    return int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes)


def _spread(mesh: Mesh, rows: int) -> int:
    """Devices that share out the pairs of a batch."""
    return rows // meshes.pairs(mesh, rows).shard_shape((rows,))[0]


def _probes_bytes(model: Model, facts: int) -> int:
    """States of all facts, and a fit to four fifths of them."""
    rows, width = 2 * model.config.layers + 1, model.config.width
    x = jax.ShapeDtypeStruct((rows, facts - facts // FOLDS, width), jnp.float32)
    y = jax.ShapeDtypeStruct(x.shape[1:2], jnp.int32)
    return _needed(probes.fit.lower(x, y, 3)) + 2 * 4 * rows * facts * width


def summary(prepared: Prepared, mesh: Mesh) -> str:
    """Lines on memory and work, for a dry run."""
    plan = make(prepared, mesh)
    name, most = max(plan.temporary.items(), key=lambda item: item[1])
    where = f"each of {mesh.size} devices" if mesh.size > 1 else "one device"
    return (
        f"  memory       {_bytes(plan.params + most)} on {where}: parameters "
        f"{_bytes(plan.params)}, {name} {_bytes(most)}\n"
        f"  work         {_flops(plan.flops)} a seed in matrix products of blocks"
    )


def _bytes(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


def _flops(count: float) -> str:
    size, unit = next((s, u) for s, u in ((1e15, "P"), (1e12, "T"), (0, "G")) if count >= s)
    return f"{count / (size or 1e9):.3g} {unit}FLOP"


def programs(
    model: Model, params: Any, settings: config.Localize, inputs: Inputs, question: Question,
    cache: Cache, first: int,
) -> Iterator[Program]:  # fmt: skip
    """Every program of the localizers (`localizers`, in its order), lowered from shapes.

    Args:
      model, params: with parameters' shapes.
      settings: which localizers, and how.
      inputs, question, cache: shapes of a batch of pairs, and of a run of it.
      first: the first position at which pairs differ.
    """
    layers, heads = model.config.layers, model.config.heads
    rows, length = inputs.ids.shape
    half = (layers + 1) / 2 * layers
    """Blocks of one patch on every layer: from each layer to the last."""
    yield Program("a run", questions.run.lower(model, params, inputs, question), layers, 3)
    runs = (model, params, inputs, cache, cache, question)

    def patched(place: str, count: int, start: int) -> tuple[Any, float]:
        tail = length - start
        shapes = {"heads": (count, 1, 1, heads, 1), "whole": (count, 1, 1, 1)}
        name = "states" if place == "each" else place
        shape = shapes.get(place, (count, 1, tail, 1))
        lowered = patching.patched.lower(*runs, name, _bools(shape), start)
        return lowered, half * count * tail / length

    if "patching" in settings.methods:
        parts = np.array_split(np.arange(first, length), min(settings.groups, length - first))
        for place in ("states", *STREAM):
            for part in parts:
                lowered, blocks = patched(place, len(part), int(part[0]))
                yield Program("patching positions", lowered, blocks, 3)
        for place in STREAM:
            lowered = patching.patched.lower(*runs, place, _bools((1,) * 4), first)
            yield Program("patching", lowered, half * (length - first) / length, 3)
        lowered, blocks = patched("heads", heads, first)
        yield Program("patching heads", lowered, blocks, 3)
    for name, steps in (("attribution", 0), ("attribution_path", settings.path_steps)):
        if name in settings.methods:
            narrow = question._replace(words=_of(question.words, (rows, DONOR)))
            lowered = attribution.attribution.lower(*runs[:-1], narrow, steps)
            yield Program("attribution", lowered, 4 * layers * max(steps, 1), 2)
    if "paths" in settings.methods:
        lowered = paths.heads_to_output.lower(*runs)
        yield Program("head paths", lowered, half * heads / length, 2)
        lowered = paths.mlps_to_state.lower(*runs, jax.ShapeDtypeStruct((), jnp.int32))
        # At most: half of the layers before the receiver, half after it.
        yield Program("MLP paths", lowered, layers * layers / 4, 2)
    if "tracing" in settings.methods:
        shape = (settings.draws, rows)
        key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), shape))
        tail = length - first
        for place, count in (*((place, 1) for place in STREAM), ("states", tail)):
            where = _bools((count, 1, tail if count > 1 else 1, 1))
            lowered = tracing.restored.lower(
                model, params, inputs, cache, question, place, where, key,
                jax.ShapeDtypeStruct((), jnp.float32), first,
            )  # fmt: skip
            blocks = settings.draws * (layers + half * count * tail / length)
            yield Program("causal tracing", lowered, blocks, 2)


def _params(model: Model, mesh: Mesh) -> Any:
    shapes = jax.eval_shape(lambda: transformer.init(model, jax.random.key(0)))
    places = sharding.shardings(shapes, mesh)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        places,
    )


def _asked(mesh: Mesh, rows: int, length: int, words: int) -> tuple[Inputs, Question]:
    place = meshes.pairs(mesh, rows)

    def of(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=place)

    inputs = Inputs(of(jnp.int32, length), of(jnp.bool_, length))
    return inputs, Question(of(jnp.int32), of(jnp.int32, words), of(jnp.bool_, length))


def _of(leaf: jax.ShapeDtypeStruct, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=leaf.sharding)


def _bools(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.bool_)
