"""Random text with known entropy: an order-1 Markov chain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from relearn_jax.data.facts.world.matchings import disjoint_matchings

PROBABILITIES = np.array([0.5, 0.25, 0.125, 0.125])
"""Probabilities of a symbol's successors: few and uneven, so that a small model learns them along
with the facts."""


class Chain(NamedTuple):
    """S symbols; each has K successors by rank, and is the successor of K symbols."""

    successors: Int[np.ndarray, "S K"]
    probabilities: Float[np.ndarray, " K"]

    @property
    def entropy(self) -> float:
        """Entropy in nats of a symbol given the previous one: the least possible mean loss."""
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
    """Symbols of independent lines; the first symbol has the stationary, uniform distribution."""
    symbols, ranks = chain.successors.shape
    out = np.empty((rows, length), np.int64)
    out[:, 0] = rng.integers(symbols, size=rows)
    rank = rng.choice(ranks, (rows, length), p=chain.probabilities)
    for position in range(1, length):
        out[:, position] = chain.successors[out[:, position - 1], rank[:, position]]
    return out
