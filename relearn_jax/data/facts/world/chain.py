"""Random text whose unpredictability is known: an order-1 Markov chain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from relearn_jax.data.facts.world.matchings import disjoint_matchings

PROBABILITIES = np.array([0.5, 0.25, 0.125, 0.125])
"""Of a symbol's successors: as few and uneven ones as a small model learns along with the facts."""


class Chain(NamedTuple):
    """S symbols; each has K successors, and each is successor of K others, by rank."""

    successors: Int[np.ndarray, "S K"]
    probabilities: Float[np.ndarray, " K"]

    @property
    def entropy(self) -> float:
        """Nats a symbol, given the one before: the least possible mean loss."""
        return float(-(self.probabilities * np.log(self.probabilities)).sum())


def make(symbols: int, rng: np.random.Generator) -> Chain:
    """A chain in which all symbols are equally frequent.

    Successors of one rank are a permutation, so the uniform distribution is stationary, and a model
    that ignores the previous symbol cannot do better than log S. Raises ValueError for fewer than 4
    symbols.
    """
    return Chain(disjoint_matchings(symbols, len(PROBABILITIES), rng).T, PROBABILITIES)


def draw(
    chain: Chain, rows: int, length: int, rng: np.random.Generator
) -> Int[np.ndarray, "rows length"]:
    """Symbols of independent lines; the first of each is uniform, which is stationary."""
    symbols, ranks = chain.successors.shape
    out = np.empty((rows, length), np.int64)
    out[:, 0] = rng.integers(symbols, size=rows)
    rank = rng.choice(ranks, (rows, length), p=chain.probabilities)
    for at in range(1, length):
        out[:, at] = chain.successors[out[:, at - 1], rank[:, at]]
    return out
