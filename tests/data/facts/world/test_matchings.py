"""Disjoint perfect matchings."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.data.facts.world.matchings import disjoint_matchings


@pytest.mark.parametrize(("size", "count"), [(1, 1), (4, 4), (16, 6), (21, 21), (64, 12)])
def test_rows_are_permutations_and_no_edge_occurs_twice(size, count):
    pairs = disjoint_matchings(size, count, np.random.default_rng(0))
    assert (np.sort(pairs, axis=1) == np.arange(size)).all()
    edges = pairs + size * np.arange(size)
    assert len(np.unique(edges)) == size * count


def test_more_matchings_than_vertices_are_refused():
    with pytest.raises(ValueError, match="at most 3"):
        disjoint_matchings(3, 4, np.random.default_rng(0))


def test_matchings_are_random_and_no_shifts():
    def draw(seed):
        return disjoint_matchings(8, 3, np.random.default_rng(seed))

    assert (draw(0) == draw(0)).all()
    partners = np.stack([draw(seed) for seed in range(600)])
    counts = np.stack([(partners == right).sum(0) for right in range(8)])
    assert counts.min() > 600 / 8 * 0.5, "every edge is about equally likely in every row"
    assert counts.max() < 600 / 8 * 1.7
    shifts = (partners - np.arange(8)) % 8
    cyclic = (shifts == shifts[..., :1]).all(-1)
    assert cyclic.mean() < 0.01
