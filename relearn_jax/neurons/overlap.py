"""Overlap of the best neurons of two rankings, beside the overlap expected by chance.

Axes: Y concepts, S rows of neurons, D channels. Ranks are places in a ranking, 0 the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from scipy.special import gammaln

NEGLIGIBLE = 1e-12
"""Probabilities below this are left out of a distribution."""


class Chance(NamedTuple):
    """Size of the overlap of two independent draws: its mean and 95 % range (2.5 to 97.5 %)."""

    expected: float
    low: int
    high: int


def best(
    ranks: Int[np.ndarray, "S D"], top: int, allowed: Bool[np.ndarray, "S D"]
) -> Bool[np.ndarray, "S D"]:
    """The `top` neurons that rank first among the allowed ones.

    Raises ValueError if fewer than `top` neurons are allowed.
    """
    candidates = np.flatnonzero(allowed)
    if not 0 <= top <= candidates.size:
        raise ValueError(f"no first {top} of {candidates.size} neurons")
    chosen = np.zeros(allowed.size, bool)
    chosen[candidates[np.argsort(ranks.ravel()[candidates], kind="stable")[:top]]] = True
    return chosen.reshape(allowed.shape)


def shared(
    ranks_a: Int[np.ndarray, "S D"],
    ranks_b: Int[np.ndarray, "S D"],
    top: int,
    allowed: Bool[np.ndarray, "S D"],
) -> int:
    """Number of neurons among the first `top` of both rankings; see `best`."""
    return int((best(ranks_a, top, allowed) & best(ranks_b, top, allowed)).sum())


def chance(first: int, second: int, candidates: int) -> Chance:
    """Overlap of `first` and `second` neurons drawn independently from the same candidates.

    The overlap is hypergeometric. Raises ValueError if a draw exceeds the candidates.
    """
    return chance_by_layer(np.array([first]), np.array([second]), np.array([candidates]))


def chance_by_layer(
    first: Int[np.ndarray, " S"], second: Int[np.ndarray, " S"], candidates: Int[np.ndarray, " S"]
) -> Chance:
    """`chance` for draws of a fixed number from each layer.

    This is the overlap of rankings that merely prefer the same layers; pooled `chance` is lower.
    """
    if (np.maximum(first, second) > candidates).any():
        raise ValueError(f"more neurons drawn than the {candidates.sum()} candidates")
    start, total = 0, np.ones(1)
    for a, b, n in zip(first.tolist(), second.tolist(), candidates.tolist(), strict=True):
        low, part = _hypergeometric(a, b, n)
        start, total = start + low, np.convolve(total, part)
        # The sum over layers has long tails of negligible probability.
        likely = np.flatnonzero(total > NEGLIGIBLE)
        start, total = start + int(likely[0]), total[likely[0] : likely[-1] + 1]
    summed = np.cumsum(total / total.sum())
    low, high = (start + int(np.searchsorted(summed, q)) for q in (0.025, 0.975))
    return Chance(float((first * second / np.maximum(candidates, 1)).sum()), low, high)


def _hypergeometric(a: int, b: int, n: int) -> tuple[int, np.ndarray]:
    """The smallest possible overlap, and the probabilities of that and every larger overlap."""
    low = max(0, a + b - n)
    k = np.arange(low, min(a, b) + 1)
    logs = _choices(a, k) + _choices(n - a, b - k) - _choices(n, b)
    return low, np.exp(logs)


def _choices(n: int, k: np.ndarray | int) -> np.ndarray:
    """Logarithm of the binomial coefficient, n choose k."""
    return gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - np.asarray(k) + 1)


def pairs(
    ranks: Int[np.ndarray, "Y S D"],
    names: Sequence[str],
    top: int,
    allowed: Bool[np.ndarray, "S D"],
) -> Iterator[dict[str, str | int | float]]:
    """Overlap of the first neurons of every two concepts: rows of the table `overlap`.

    `expected`, `low` and `high` are `chance` over all candidates. With the ending `_layers` they
    are `chance_by_layer`, for draws that take from each layer as many neurons as the concept has
    there.
    """
    first = {name: best(r, top, allowed) for name, r in zip(names, ranks, strict=True)}
    candidates = allowed.sum(axis=1)
    pooled = chance(top, top, int(candidates.sum()))
    for a, b in combinations(names, 2):
        layered = chance_by_layer(first[a].sum(axis=1), first[b].sum(axis=1), candidates)
        yield {
            "concept_a": a, "concept_b": b, "top": top, "shared": int((first[a] & first[b]).sum()),
            **pooled._asdict(), **{f"{k}_layers": v for k, v in layered._asdict().items()},
        }  # fmt: skip


def takeover(
    base: Int[np.ndarray, "Y S D"],
    now: Int[np.ndarray, "Y S D"],
    names: Sequence[str],
    pruned: Bool[np.ndarray, "S D"],
    top: int,
    allowed: Bool[np.ndarray, "S D"],
) -> Iterator[dict[str, str | int | float]]:
    """Concepts that the pruned neurons represent: rows of the table `takeover`.

    `neurons` counts the pruned neurons among a concept's first `top` by the ranks `now`, and `was`
    by the ranks of the base model. Chance draws as many neurons from all allowed ones.
    """
    members = pruned & allowed
    by_chance = chance(int(members.sum()), top, int(allowed.sum()))
    for name, before, after in zip(names, base, now, strict=True):
        yield {
            "concept": name,
            "was": int((members & best(before, top, allowed)).sum()),
            "neurons": int((members & best(after, top, allowed)).sum()),
            "top": top,
            **by_chance._asdict(),
        }
