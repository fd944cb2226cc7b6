"""Weight tables at work: Hugging Face tensors to our parameters and back, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from relearn_jax.errors import UserError
from relearn_jax.models import transformer
from relearn_jax.models.family import Family, Row
from relearn_jax.models.transformer import Model

PyTree = Any
Reader = Callable[[str], np.ndarray]
"""Gives one tensor by its name in the file."""


def flatten(params: PyTree) -> dict[str, Any]:
    """{"blocks/up/kernel": leaf, ...}"""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(str(p.key) for p in path): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> PyTree:
    """The inverse of `flatten`."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, without making one."""
    tree = jax.eval_shape(lambda k: transformer.init(model, k), jax.random.key(0))
    return {path: leaf.shape for path, leaf in flatten(tree).items()}


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


def load(
    model: Model, names: Mapping[str, str] | list[str], reader: Reader, origin: str
) -> tuple[PyTree, tuple[str, ...]]:
    """Fill a model from a checkpoint.

    Args:
      model: the target.
      names: the tensors that the checkpoint holds.
      reader: gives one of them.
      origin: shown in errors.

    Returns:
      Parameters as float32 NumPy arrays, without the parts that the checkpoint lacks as a whole and
      that are allowed to be fresh (the task head), and the paths of those missing leaves.

    Raises:
      UserError: listing every tensor that is missing, unexpected or of another shape.
    """
    family, layers = model.family, model.config.layers
    found = {canonical(family, name): name for name in names}
    wanted, table = shapes(model), rows(model)
    known = {name: path for path, row in table.items() for name in _names(row, layers)}
    elsewhere = {name for row in family.table for name in _names(row, layers)} - set(known)
    problems: list[str] = []
    for name in sorted(set(found) - set(known) - elsewhere):
        if not any(re.fullmatch(pattern, name) for pattern in family.ignored):
            problems.append(f"unexpected tensor {found[name]}")

    leaves: dict[str, np.ndarray] = {}
    fresh = _fresh_head(model, table, found)
    for path, row in table.items():
        if path in fresh:
            continue
        missing = [name for name in _names(row, layers) if name not in found]
        problems += [f"missing tensor {name} (for {path})" for name in missing]
        if missing:
            continue
        parts = [_change(row, reader(found[name])) for name in _names(row, layers)]
        want = wanted[path][1:] if "{l}" in row.theirs else wanted[path]
        for name, part in zip(_names(row, layers), parts, strict=True):
            if part.shape != want:
                problems.append(f"{found[name]} has shape {part.shape}, {path} wants {want}")
        if problems:
            continue
        leaf = np.stack(parts) if "{l}" in row.theirs else parts[0]
        leaves[path] = np.ascontiguousarray(leaf, dtype=np.float32)
    if problems:
        shown = "\n  ".join(problems[:40]) + ("\n  ..." if len(problems) > 40 else "")
        raise UserError(f"{origin} does not fit {family.name}, {model.task}:\n  {shown}")
    return unflatten(leaves), tuple(sorted(fresh))


def _fresh_head(model: Model, table: Mapping[str, Row], found: Mapping[str, str]) -> set[str]:
    """Classifier leaves that the checkpoint lacks altogether; they may be drawn at random."""
    head = {path for path in table if path.startswith("head/classifier/")}
    present = {path for path in head if table[path].theirs in found}
    return set() if present else head


def export(model: Model, params: PyTree) -> dict[str, np.ndarray]:
    """Tensors under Hugging Face's names; the inverse of `load`."""
    leaves = flatten(params)
    tensors: dict[str, np.ndarray] = {}
    for path, row in rows(model).items():
        leaf = np.asarray(leaves[path], np.float32)
        prefix = model.family.prefix if row.prefixed and model.task != "backbone" else ""
        stacked = "{l}" in row.theirs
        for i, name in enumerate(_names(row, model.config.layers)):
            part = leaf[i] if stacked else leaf
            tensors[prefix + name] = np.ascontiguousarray(_change(row, part))
    return tensors


def count(params: PyTree) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def to_device(params: PyTree) -> PyTree:
    """NumPy to JAX arrays."""
    return jax.tree.map(jnp.asarray, params)
