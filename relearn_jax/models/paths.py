"""The one way to name a place in a tree of parameters: `blocks/up/kernel`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

PyTree = Any


def name(path: Iterable[Any]) -> str:
    """A path of JAX's tree functions as text."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def flatten(tree: PyTree) -> dict[str, Any]:
    """{"blocks/up/kernel": leaf, ...}"""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {name(path): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> PyTree:
    """The inverse of `flatten`, for trees of dicts."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *folders, last = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = leaf
    return tree


def partition(tree: PyTree, chosen: Callable[[str], bool]) -> tuple[PyTree, PyTree]:
    """Two trees of dicts: the leaves whose path is chosen, and the others."""
    leaves = flatten(tree)
    parts = ({}, {})
    for path, leaf in leaves.items():
        parts[not chosen(path)][path] = leaf
    return unflatten(parts[0]), unflatten(parts[1])


def merge(*trees: PyTree) -> PyTree:
    """One tree of dicts from several that share no leaf; the inverse of `partition`."""
    leaves: dict[str, Any] = {}
    for tree in trees:
        leaves |= flatten(tree)
    return unflatten(leaves)
