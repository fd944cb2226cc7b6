"""Where each parameter lies on the mesh: regexes over paths, the first that fits decides.

A path is that of the flat parameters ("blocks/up/kernel"), alone or at the end of a longer one, so
optimizer moments and masks follow their parameters. Every leaf must be covered. The stacked layer
axis of `blocks` is never split: the scan over layers would fetch each layer from one device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from relearn_jax.parallel.mesh import FSDP, SETS, TENSOR

PyTree = Any
INTO, OUT_OF = "query|key|value|qkv|up|gate", "attention_out|down"
RULES: tuple[tuple[str, P], ...] = (
    (r"embed/word/embedding", P(TENSOR, FSDP)),
    (r"embed/(position|kind)/embedding", P(None, FSDP)),
    (rf"blocks/({INTO})/kernel", P(None, FSDP, TENSOR)),
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


def name(path: Iterable[Any]) -> str:
    """A tree path as text."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def spec(path: str, shape: tuple[int, ...], mesh: Mesh, sets_axis: bool = False) -> P:
    """The partition of one leaf. Scalars are never split.

    A mesh axis that does not divide the leaf's side is left out, so that side stays whole. With
    `sets_axis` the leaf's first axis is C.

    Raises:
      ValueError: no rule covers the path.
    """
    sides = shape[1:] if sets_axis else shape
    found = next((s for rule, s in RULES if re.search(rf"(^|/){rule}$", path)), None)
    if found is None and sides:
        raise ValueError(f"no sharding rule covers parameter {path}; add one to RULES")
    axes = list(zip(found or (), sides, strict=False))
    if sets_axis:
        axes.insert(0, (SETS, shape[0]))
    split = [axis if axis and side % mesh.shape[axis] == 0 else None for axis, side in axes]
    while split and split[-1] is None:
        split.pop()
    return P(*split)


def shardings(tree: PyTree, mesh: Mesh, sets_axis: bool = False) -> PyTree:
    """Shardings for a tree of parameters, moments or masks (arrays or their shapes)."""

    def one(path: Any, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, spec(name(path), tuple(leaf.shape), mesh, sets_axis))

    return jax.tree_util.tree_map_with_path(one, tree)


def placer(mesh: Mesh) -> Callable[[str, tuple[int, ...]], NamedSharding]:
    """Where loading puts each parameter, by path and shape."""
    return lambda path, shape: NamedSharding(mesh, spec(path, shape, mesh))


def constrain(tree: PyTree, mesh: Mesh, sets_axis: bool = False) -> PyTree:
    """Inside jit: keep a tree where the rules want it."""
    return jax.lax.with_sharding_constraint(tree, shardings(tree, mesh, sets_axis))


def bytes_per_device(tree: PyTree, mesh: Mesh, sets_axis: bool = False) -> int:
    """Memory that a tree takes on each device."""
    places = shardings(tree, mesh, sets_axis)
    sizes = jax.tree.map(
        lambda leaf, place: math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize,
        tree,
        places,
    )
    return sum(jax.tree.leaves(sizes))
