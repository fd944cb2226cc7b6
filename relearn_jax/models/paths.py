"""Paths: names of leaves in a tree of parameters, such as `blocks/up/kernel`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

PyTree = Any


def name(path: Iterable[Any]) -> str:
    """The name of a path of JAX's tree functions."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def flatten(tree: PyTree) -> dict[str, Any]:
    """A dict of leaves by path: {"blocks/up/kernel": leaf, ...}."""
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
    """Split a tree into two trees of dicts: the leaves with a chosen path, and the others."""
    leaves = flatten(tree)
    parts = ({}, {})
    for path, leaf in leaves.items():
        parts[not chosen(path)][path] = leaf
    return unflatten(parts[0]), unflatten(parts[1])


def merge(*trees: PyTree) -> PyTree:
    """Merge trees that share no leaf into one tree of dicts; the inverse of `partition`."""
    leaves: dict[str, Any] = {}
    for tree in trees:
        leaves |= flatten(tree)
    return unflatten(leaves)
