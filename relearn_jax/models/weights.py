"""Weight tables at work: Hugging Face tensors to our parameters and back, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open

from relearn_jax.errors import UserError
from relearn_jax.models import paths, streaming, transformer
from relearn_jax.models.family import Family, Row
from relearn_jax.models.streaming import Index, Place
from relearn_jax.models.transformer import Model

PyTree = Any
Reader = Callable[[str, Index], np.ndarray]
"""Gives a part of one tensor by its name in the file."""


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, without making one."""
    tree = jax.eval_shape(lambda k: transformer.init(model, k), jax.random.key(0))
    return {path: leaf.shape for path, leaf in paths.flatten(tree).items()}


def canonical(family: Family, name: str) -> str:
    """A tensor's name without prefix and with today's names of a norm's parameters."""
    name = name.removeprefix(family.prefix)
    return re.sub(r"(LayerNorm|layer_norm)\.gamma$", r"\1.weight", name).replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _change(row: Row, tensor: np.ndarray) -> np.ndarray:
    return tensor.T if row.change == "transpose" else tensor


def _names(row: Row, layers: int) -> list[str]:
    return [row.theirs.format(l=i) for i in range(layers)] if "{l}" in row.theirs else [row.theirs]


def rows(model: Model) -> dict[str, Row]:
    """The table rows that this model's parameters use, by our path."""
    table: dict[str, Row] = {}
    wanted = shapes(model)
    for row in model.family.table:
        if row.ours in wanted:
            table[row.ours] = row
    lacking = set(wanted) - set(table)
    if lacking:
        raise AssertionError(f"{model.family.name}: no table row for {sorted(lacking)}")
    return table


def check(model: Model, found: Mapping[str, tuple[int, ...]], origin: str) -> tuple[str, ...]:
    """Compare a checkpoint's tensors with what a model needs.

    Args:
      model: the target.
      found: shape of every tensor that the checkpoint holds, by its name there.
      origin: shown in errors.

    Returns:
      Paths of parameters that the checkpoint lacks and that may be drawn fresh (the task head).

    Raises:
      UserError: listing every tensor that is missing, unexpected or of another shape.
    """
    family, layers = model.family, model.config.layers
    named = {canonical(family, name): name for name in found}
    wanted, table = shapes(model), rows(model)
    known = {name for row in table.values() for name in _names(row, layers)}
    elsewhere = {name for row in family.table for name in _names(row, layers)}
    problems = [
        f"unexpected tensor {named[name]}"
        for name in sorted(set(named) - known - elsewhere)
        if not any(re.fullmatch(pattern, name) for pattern in family.ignored)
    ]
    fresh = _fresh_head(table, set(named))
    for path, row in table.items():
        stacked = "{l}" in row.theirs
        want = wanted[path][1:] if stacked else wanted[path]
        want = want[::-1] if row.change == "transpose" else want
        for name in _names(row, layers) if path not in fresh else ():
            if name not in named:
                problems.append(f"missing tensor {name} (for {path})")
            elif found[named[name]] != want:
                shape = found[named[name]]
                problems.append(f"{named[name]} has shape {shape}, {path} wants {want}")
    if problems:
        shown = "\n  ".join(problems[:40]) + ("\n  ..." if len(problems) > 40 else "")
        raise UserError(f"{origin} does not fit {family.name}, {model.task}:\n  {shown}")
    return tuple(sorted(fresh))


def load(
    model: Model,
    names: Iterable[str],
    reader: Reader,
    fresh: tuple[str, ...],
    place: Place | None = None,
) -> PyTree:
    """Parameters in float32 but those in `fresh`, one stacked leaf after another.

    They are NumPy arrays or, with `place`, arrays on their devices; what the host holds at any
    moment is then one shard of one leaf.
    """
    named = {canonical(model.family, name): name for name in names}
    wanted, leaves = shapes(model), {}
    for path, row in rows(model).items():
        if path not in fresh:
            files = [named[name] for name in _names(row, model.config.layers)]
            part, shape = partial(_part, row, files, reader), wanted[path]
            leaves[path] = (
                streaming.put(part, shape, place(path, shape))
                if place
                else part(streaming.whole(shape))
            )
    return paths.unflatten(leaves)


def _part(row: Row, names: list[str], reader: Reader, index: Index) -> np.ndarray:
    """A part of a leaf; of a stacked one, a single tensor's part is held beside it."""

    def one(name: str, index: Index) -> np.ndarray:
        return _change(row, reader(name, index[::-1] if row.change == "transpose" else index))

    if "{l}" not in row.theirs:
        return np.ascontiguousarray(one(names[0], index), dtype=np.float32)
    stack = np.empty([s.stop - s.start for s in index], np.float32)
    for i, name in enumerate(names[index[0]]):
        stack[i] = one(name, index[1:])
    return stack


def draw(
    model: Model, key: jax.Array, drawn: Iterable[str], place: Place | None = None
) -> dict[str, jax.Array]:
    """Random parameters of these paths alone, made where they are to lie; the same everywhere.

    Of several keys [C] those of C models, [C, ...]."""
    many, drawn, every = key.shape, tuple(drawn), shapes(model)

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        leaves = paths.flatten(transformer.init(model, key))
        return {path: leaves[path] for path in drawn}

    where = place and {path: place(path, (*many, *every[path])) for path in drawn}
    return jax.jit(jax.vmap(draw) if many else draw, out_shardings=where)(key)


def read_stacked(files: Sequence[Path], place: Place) -> PyTree:
    """Parameters of C models from their safetensors files (our own paths as names), [C, ...].

    They go straight onto their shards: the host never holds more than one shard of one leaf. Values
    and dtypes stay as they are.
    """
    opened = [safe_open(file, framework="numpy") for file in files]

    def part(name: str, index: Index) -> np.ndarray:
        return np.stack([file.get_slice(name)[index[1:]] for file in opened[index[0]]])

    leaves = {}
    for name in sorted(opened[0].keys()):
        shape = (len(opened), *opened[0].get_slice(name).get_shape())
        leaves[name] = streaming.put(partial(part, name), shape, place(name, shape))
    return paths.unflatten(leaves)


def _fresh_head(table: Mapping[str, Row], found: set[str]) -> set[str]:
    """Classifier leaves that the checkpoint lacks altogether; they may be drawn at random."""
    head = {path for path in table if path.startswith("head/classifier/")}
    present = {path for path in head if table[path].theirs in found}
    return set() if present else head


def export(model: Model, params: PyTree) -> dict[str, np.ndarray]:
    """Tensors under Hugging Face's names; the inverse of `load`."""
    leaves = paths.flatten(params)
    tensors: dict[str, np.ndarray] = {}
    for path, row in rows(model).items():
        leaf = np.asarray(leaves[path], np.float32)
        prefix = model.family.prefix if row.prefixed and model.task != "backbone" else ""
        stacked = "{l}" in row.theirs
        for i, name in enumerate(_names(row, model.config.layers)):
            part = leaf[i] if stacked else leaf
            tensors[prefix + name] = np.ascontiguousarray(_change(row, part))
    return tensors


def to_device(params: PyTree) -> PyTree:
    """NumPy to JAX arrays."""
    return jax.tree.map(jnp.asarray, params)
