"""Trees of parameters by path."""

from __future__ import annotations

import numpy as np

from relearn_jax.models import paths

TREE = {"embed": {"word": np.ones(2)}, "blocks": {"up": {"kernel": np.ones(3), "bias": np.ones(1)}}}


def same(a, b):
    return a.keys() == b.keys() and all(a[path] is b[path] for path in a)


def test_unflatten_is_the_inverse_of_flatten():
    flat = paths.flatten(TREE)
    assert set(flat) == {"embed/word", "blocks/up/kernel", "blocks/up/bias"}
    assert same(paths.flatten(paths.unflatten(flat)), flat)


def test_parts_share_no_leaf_and_merge_to_the_whole():
    chosen, rest = paths.partition(TREE, lambda path: path.startswith("blocks"))
    assert set(paths.flatten(chosen)) == {"blocks/up/kernel", "blocks/up/bias"}
    assert set(paths.flatten(rest)) == {"embed/word"}
    assert same(paths.flatten(paths.merge(chosen, rest)), paths.flatten(TREE))
    everything, nothing = paths.partition(TREE, lambda path: True)
    assert nothing == {}
    assert same(paths.flatten(everything), paths.flatten(TREE))
