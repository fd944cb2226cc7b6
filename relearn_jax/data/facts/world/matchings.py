"""Random perfect matchings without shared edges: the design that balances the world's names."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Bool, Int


def disjoint_matchings(
    size: int, count: int, rng: np.random.Generator
) -> Int[np.ndarray, "count size"]:
    """Row k pairs each of `size` left vertices with a right vertex; no pair occurs in two rows.

    Each row is a perfect matching of the complete bipartite graph without the edges of the rows
    before, found along augmenting paths over neighbours in random order (specs: mechanistic
    unlearning 9.1). The remaining graph is regular, so by Hall's theorem it has another matching.
    Raises ValueError if `count > size`.
    """
    if count > size:
        raise ValueError(f"{size} vertices have at most {size} disjoint matchings, not {count}")
    free = np.ones((size, size), bool)
    rows = np.empty((count, size), np.int64)
    for row in rows:
        row[:] = _matching(free, rng)
        free[np.arange(size), row] = False
    return rows


def _matching(free: Bool[np.ndarray, "n n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """A perfect matching of the free edges: the right partner of each left vertex."""
    size = len(free)
    neighbours = [rng.permutation(np.flatnonzero(edges)) for edges in free]
    left_of = np.full(size, -1)
    right_of = np.full(size, -1)
    for start in rng.permutation(size):
        came_from: dict[int, int] = {}
        queue, end = deque([start]), -1
        while end < 0:
            left = queue.popleft()
            for right in neighbours[left]:
                if right in came_from:
                    continue
                came_from[right] = left
                if left_of[right] < 0:
                    end = right
                    break
                queue.append(left_of[right])
        while end >= 0:
            left = came_from[end]
            left_of[end], right_of[left], end = left, end, right_of[left]
    return right_of
