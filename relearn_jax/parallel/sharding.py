"""The partition of each parameter on the mesh, by regexes over paths; the first match decides.

A rule matches a path of the flat parameters ("blocks/up/kernel"), or the end of a longer path, so
that optimizer moments and masks follow their parameters. Every leaf must match. The stacked layer
axis of `blocks` is never split: the scan over layers would fetch each layer from one device.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from relearn_jax.models import paths
from relearn_jax.models.transformer import Layout, Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel.mesh import FSDP, SETS, TENSOR

PyTree = Any
INTO, OUT_OF = "query|key|value|qkv|up|gate", "attention_out|down"
RULES: tuple[tuple[str, P], ...] = (
    (r"(embed|head)/word/embedding", P(TENSOR, FSDP)),
    (r"embed/(position|kind)/embedding", P(None, FSDP)),
    (rf"blocks/({INTO})/kernel", P(None, FSDP, TENSOR)),
    (rf"blocks/({INTO})/adapter", P(None, FSDP, TENSOR)),
    (rf"blocks/({INTO})/adapter_down", P(None, FSDP)),
    (rf"blocks/({INTO})/adapter_up", P(None, None, TENSOR)),
    (rf"blocks/({OUT_OF})/adapter", P(None, TENSOR, FSDP)),
    (rf"blocks/({OUT_OF})/adapter_down", P(None, TENSOR)),
    (rf"blocks/({OUT_OF})/adapter_up", P(None, None, FSDP)),
    (rf"blocks/({INTO})/bias", P(None, TENSOR)),
    (rf"blocks/({OUT_OF})/kernel", P(None, TENSOR, FSDP)),
    (rf"blocks/({OUT_OF})/bias", P()),
    (r"blocks/\w*norm/(scale|bias)", P()),
    (r"(embed|final|head)/norm/(scale|bias)", P()),
    (r"head/classifier/(kernel|bias)", P()),
    (r"head/(dense|transform)/kernel", P(FSDP, TENSOR)),
    (r"head/(dense|transform)/bias", P(TENSOR)),
    (r"head/bias", P(TENSOR)),
)


def spec(path: str, shape: tuple[int, ...], mesh: Mesh, sets_axis: bool = False) -> P:
    """The partition of one leaf. Scalars are never split.

    A side that a mesh axis does not divide (GPT-2 has 50,257 words) is not split: the mesh axis
    joins the rule's other axis on the other side, or is left out if it does not divide that either.
    With `sets_axis` the leaf's first axis is C.

    Raises:
      ValueError: no rule covers the path.
    """
    sides = shape[1:] if sets_axis else shape
    rule = next((s for rule, s in RULES if re.search(rf"(^|/){rule}$", path)), None)
    if rule is None and sides:
        raise ValueError(f"no sharding rule covers parameter {path}; add one to RULES")
    split = _fitted(rule or P(), sides, mesh)
    if sets_axis:
        split.insert(0, SETS if shape[0] % mesh.shape[SETS] == 0 else None)
    while split and split[-1] is None:
        split.pop()
    return P(*split)


def _fitted(rule: P, sides: tuple[int, ...], mesh: Mesh) -> list[str | tuple[str, ...] | None]:
    """Mesh axes of each side; an axis that does not divide its side joins another named side."""
    named = [side for side, axis in enumerate(rule) if axis]
    split: dict[int, tuple[str, ...]] = dict.fromkeys(named, ())

    def put(axis: str, side: int) -> bool:
        joined = (axis, *split[side])
        if sides[side] % math.prod(mesh.shape[axis] for axis in joined):
            return False
        split[side] = joined
        return True

    for moved in [side for side in named if not put(rule[side], side)]:
        any(put(rule[moved], side) for side in named)
    parts = [split.get(side, ()) for side in range(len(rule))]
    return [axes[0] if len(axes) == 1 else axes or None for axes in parts]


def shardings(tree: PyTree, mesh: Mesh, sets_axis: bool = False) -> PyTree:
    """A tree of shardings for parameters, moments or masks (arrays or their shapes)."""

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, spec(paths.name(path), tuple(leaf.shape), mesh, sets_axis))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def placer(mesh: Mesh, sets_axis: bool = False) -> Callable[[str, tuple[int, ...]], NamedSharding]:
    """A function from a parameter's path and shape to its sharding, for loading."""
    return lambda path, shape: NamedSharding(mesh, spec(path, shape, mesh, sets_axis))


def spread(model: Model, mesh: Mesh) -> Model:
    """The model with its states split by rows and its word embedding gathered over fsdp only."""
    if mesh.shape[FSDP] * mesh.shape[TENSOR] == 1:
        return model
    shape = (model.config.vocabulary, model.config.width)
    split = spec("embed/word/embedding", shape, mesh)
    words = P(*(TENSOR if axes and TENSOR in axes else None for axes in split))
    layout = Layout(states=meshes.rows(mesh, False), words=NamedSharding(mesh, words))
    return dataclasses.replace(model, layout=layout)


def constrain(tree: PyTree, mesh: Mesh, sets_axis: bool = False) -> PyTree:
    """Inside jit: constrain a tree to the shardings of the rules."""
    return jax.lax.with_sharding_constraint(tree, shardings(tree, mesh, sets_axis))


def bytes_per_device(tree: PyTree, mesh: Mesh, sets_axis: bool = False) -> int:
    """Bytes that a tree takes on each device."""
    places = shardings(tree, mesh, sets_axis)
    sizes = jax.tree.map(
        lambda leaf, place: math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize,
        tree,
        places,
    )
    return sum(jax.tree.leaves(sizes))
