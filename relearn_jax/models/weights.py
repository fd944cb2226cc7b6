"""Conversion of Hugging Face tensors to our parameters and back by weight tables, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
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
"""Reads a part of a tensor, by its name in the file."""


@cache
def shapes(model: Model) -> Mapping[str, tuple[int, ...]]:
    """Shape of every parameter, by path, computed without arrays. Read-only."""
    tree = jax.eval_shape(lambda k: transformer.init(model, k), jax.random.key(0))
    return MappingProxyType({path: leaf.shape for path, leaf in paths.flatten(tree).items()})


def canonical(family: Family, name: str) -> str:
    """A tensor's name without prefix; older names of norm parameters become the current ones."""
    name = name.removeprefix(family.prefix)
    return re.sub(r"(LayerNorm|layer_norm)\.gamma$", r"\1.weight", name).replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _change(row: Row, tensor: np.ndarray) -> np.ndarray:
    return tensor.T if row.change == "transpose" else tensor


def _names(row: Row, layers: int) -> list[str]:
    return [row.theirs.format(l=i) for i in range(layers)] if "{l}" in row.theirs else [row.theirs]


def rows(model: Model) -> dict[str, Row]:
    """The table rows of this model's parameters, by our path."""
    table: dict[str, Row] = {}
    expected = shapes(model)
    for row in model.family.table:
        if row.ours in expected:
            table[row.ours] = row
    missing = set(expected) - set(table)
    if missing:
        raise AssertionError(f"{model.family.name}: no table row for {sorted(missing)}")
    return table


def check(model: Model, tensors: Mapping[str, tuple[int, ...]], origin: str) -> tuple[str, ...]:
    """Compare a checkpoint's tensors with what a model needs.

    Args:
      model: the model.
      tensors: shape of every tensor in the checkpoint, by its name there.
      origin: shown in errors.

    Returns:
      Paths of missing parameters that may be drawn at random (those of the task head).

    Raises:
      UserError: lists every tensor that is missing, unexpected or of another shape.
    """
    family, layers = model.family, model.config.layers
    named = {canonical(family, name): name for name in tensors}
    expected, table = shapes(model), rows(model)
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
        shape = expected[path][1:] if stacked else expected[path]
        shape = shape[::-1] if row.change == "transpose" else shape
        for name in _names(row, layers) if path not in fresh else ():
            if name not in named:
                problems.append(f"missing tensor {name} (for {path})")
            elif tensors[named[name]] != shape:
                stored = tensors[named[name]]
                problems.append(f"{named[name]} has shape {stored}, {path} wants {shape}")
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
    """Load all parameters except those in `fresh`, in float32, one stacked leaf after another.

    They are NumPy arrays or, with `place`, arrays on their devices; the host then holds only one
    shard of one leaf at a time.
    """
    named = {canonical(model.family, name): name for name in names}
    expected, leaves = shapes(model), {}
    for path, row in rows(model).items():
        if path not in fresh:
            files = [named[name] for name in _names(row, model.config.layers)]
            part, shape = partial(_part, row, files, reader), expected[path]
            leaves[path] = (
                streaming.put(part, shape, place(path, shape))
                if place
                else part(streaming.full_index(shape))
            )
    return paths.unflatten(leaves)


def _part(row: Row, names: list[str], reader: Reader, index: Index) -> np.ndarray:
    """Read a part of a leaf. For a stacked leaf, memory also holds the part of a single tensor."""

    def tensor_part(name: str, index: Index) -> np.ndarray:
        return _change(row, reader(name, index[::-1] if row.change == "transpose" else index))

    if "{l}" not in row.theirs:
        return np.ascontiguousarray(tensor_part(names[0], index), dtype=np.float32)
    stack = np.empty([s.stop - s.start for s in index], np.float32)
    for i, name in enumerate(names[index[0]]):
        stack[i] = tensor_part(name, index[1:])
    return stack


def draw(
    model: Model, key: jax.Array, drawn: Iterable[str], place: Place | None = None
) -> dict[str, jax.Array]:
    """Random parameters of the paths `drawn`, made on their shards; equal for any sharding.

    For keys [C] the parameters of C models, [C, ...].
    """
    models, drawn, all_shapes = key.shape, tuple(drawn), shapes(model)

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        leaves = paths.flatten(transformer.init(model, key))
        return {path: leaves[path] for path in drawn}

    shardings = place and {path: place(path, (*models, *all_shapes[path])) for path in drawn}
    return jax.jit(jax.vmap(draw) if models else draw, out_shardings=shardings)(key)


def read_stacked(files: Sequence[Path], place: Place) -> PyTree:
    """Parameters of C models, [C, ...], from safetensors files that have our paths as names.

    Leaves are read straight onto their shards: the host never holds more than one shard of one
    leaf. Values and dtypes do not change.
    """
    opened = [safe_open(file, framework="numpy") for file in files]

    def part(name: str, index: Index) -> np.ndarray:
        return np.stack([file.get_slice(name)[index[1:]] for file in opened[index[0]]])

    leaves = {}
    for name in sorted(opened[0].keys()):
        shape = (len(opened), *opened[0].get_slice(name).get_shape())
        leaves[name] = streaming.put(partial(part, name), shape, place(name, shape))
    return paths.unflatten(leaves)


def _fresh_head(table: Mapping[str, Row], names: set[str]) -> set[str]:
    """All classifier leaves if the checkpoint has none of them; they may be drawn at random."""
    head = {path for path in table if path.startswith("head/classifier/")}
    present = {path for path in head if table[path].theirs in names}
    return set() if present else head


def export(model: Model, params: PyTree) -> dict[str, np.ndarray]:
    """Tensors with Hugging Face's names; the inverse of `load`."""
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
    """Convert NumPy arrays to JAX arrays."""
    return jax.tree.map(jnp.asarray, params)
