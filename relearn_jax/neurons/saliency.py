"""Concept saliency, and how it is summed up by layer with pruned and unpruned neurons apart.

Axes: Y concept labels, S state (or block) rows, called layers in the tables, D channels, N = S*D.

Saliency by rank (`paper`, `rank`) is zero-sum. It says how a neuron stands among the others, so a
neuron that did not change rises whenever others fall, as the untouched embedding state does when
late layers lose their gain (protocol 8.5). `standardized` answers that objection: it is computed
from the words of that neuron alone, so nothing done to other neurons moves it, and it does not see
the neuron's own scale, so a gain near zero does not hide what the neuron still tells apart. What it
leaves out is how much of the neuron reaches the next layer: read it beside the ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from relearn_jax.neurons import ranking

if TYPE_CHECKING:
    from relearn_jax.neurons.statistics import Moments

BUCKET = 100
HIGH = 0.5
GROUPS = ("all", "pruned", "unpruned")
"""The leading axis, G, of every summary here and of the similarity null."""


class LayerSummary(NamedTuple):
    """Mean by layer for each of GROUPS, the half width of its 95 % interval, and the neurons."""

    mean: Float[np.ndarray, "G S"]
    ci95: Float[np.ndarray, "G S"]
    neurons: Int[np.ndarray, "G S"]


class Redistribution(NamedTuple):
    """High-saliency neurons by layer: their number, and their share of all such neurons."""

    count: Int[np.ndarray, " S"]
    share: Float[np.ndarray, " S"]


class Association(NamedTuple):
    """Two measures over the neurons where both are defined, for each of GROUPS.

    `mean`, `std` (n - 1) and `ci95` (half width) hold one row for either measure. `spearman` is the
    rank correlation over all layers, `spearman_by_layer` within each: the pooled one mixes layers
    and can differ from them even in sign (protocol 8.6).
    """

    mean: Float[np.ndarray, "G 2"]
    std: Float[np.ndarray, "G 2"]
    ci95: Float[np.ndarray, "G 2"]
    neurons: Int[np.ndarray, " G"]
    spearman: Float[np.ndarray, " G"]
    spearman_by_layer: Float[np.ndarray, "G S"]


def paper(ranks: Int[np.ndarray, ...], ranked: int) -> Float[np.ndarray, ...]:
    """Saliency in [0, 1] in buckets of 100 ranks, as published (protocol 6.2).

    With i the zero-based rank, b = floor(i / 100) + 1 and N = `ranked`, the number of neurons that
    were ranked: |(b - N/100) / (1 - N/100)|. Up to 100 neurons are one bucket with saliency 1.
    """
    if ranked <= BUCKET:
        return np.ones(np.shape(ranks))
    bucket = np.asarray(ranks) // BUCKET + 1
    return np.abs((bucket - ranked / BUCKET) / (1 - ranked / BUCKET))


def rank(ranks: Int[np.ndarray, ...], ranked: int) -> Float[np.ndarray, ...]:
    """Saliency as a plain rank: 1 - i / (N - 1), from 1 for the first neuron to 0 for the last."""
    return 1 - np.asarray(ranks) / max(ranked - 1, 1)


def standardized(moments: Moments) -> Float[np.ndarray, "Y S D"]:
    """Scale-free saliency for every label: the standardized mean difference, 0 and upwards.

    See the head of this file for what it answers; NaN for a label that cannot be contrasted.
    """
    return ranking.scores_all(moments, "mean_difference")


def groups(pruned: Bool[np.ndarray, "S D"]) -> Bool[np.ndarray, "G S D"]:
    """Members of GROUPS: all neurons, the pruned ones, the others."""
    pruned = np.asarray(pruned, bool)
    return np.stack([np.ones_like(pruned), pruned, ~pruned])


def layer_summary(
    values: Float[np.ndarray, "S D"], pruned: Bool[np.ndarray, "S D"]
) -> LayerSummary:
    """Mean of a measure by layer over all, pruned and unpruned neurons; NaN values are left out.

    The interval is 1.96 standard errors (n - 1) to either side. A mean of no neurons and an
    interval of fewer than two are NaN.
    """
    values = np.asarray(values, np.float64)
    member = groups(pruned) & np.isfinite(values)
    mean, std, neurons = _describe(values, member)
    return LayerSummary(mean, _ci95(std, neurons), neurons)


def redistribution(
    ranks: Int[np.ndarray, "S D"],
    kept: Bool[np.ndarray, "S D"] | None = None,
    null: Bool[np.ndarray, "S D"] | None = None,
) -> Redistribution:
    """Where the neurons with a `paper` saliency above 0.5 are (protocol 6.2, table of 8.3).

    `ranks` are those among all neurons. At the base stage all count: leave `kept` out. At later
    stages pass the unpruned neurons: they are ranked anew among themselves, so exactly the upper
    half of them is high. (The paper took the lower half of the base ranking for unpruned, whatever
    was pruned: `base_ranks >= N // 2`.) Null neurons are never high. Shares sum to 1, or are NaN if
    no neuron is high.
    """
    ranks = np.asarray(ranks)
    kept = np.ones(ranks.shape, bool) if kept is None else np.asarray(kept, bool)
    anew = np.full(ranks.shape, -1)
    anew[kept] = np.argsort(np.argsort(ranks[kept]))
    high = kept & (paper(anew, int(kept.sum())) > HIGH)
    if null is not None:
        high &= ~np.asarray(null, bool)
    count = high.sum(axis=1)
    return Redistribution(
        count, count / count.sum() if count.any() else np.full(len(count), np.nan)
    )


def association(
    first: Float[np.ndarray, "S D"],
    second: Float[np.ndarray, "S D"],
    pruned: Bool[np.ndarray, "S D"],
) -> Association:
    """Two measures of the same neurons, such as similarity and saliency (protocol 6.4)."""
    both = np.stack([first, second]).astype(np.float64)
    defined = groups(pruned) & np.isfinite(both).all(axis=0)
    described = [_describe(x.reshape(1, -1), defined.reshape(len(GROUPS), 1, -1)) for x in both]
    mean, std, neurons = (np.concatenate(part, axis=1) for part in zip(*described, strict=True))
    spearman = [_spearman(*both[:, member]) for member in defined]
    by_layer = [
        [_spearman(*both[:, layer, row]) for layer, row in enumerate(member)] for member in defined
    ]
    return Association(
        mean, std, _ci95(std, neurons), neurons[:, 0], np.array(spearman), np.array(by_layer)
    )


def _describe(
    values: Float[np.ndarray, "S D"], member: Bool[np.ndarray, "G S D"]
) -> tuple[Float[np.ndarray, "G S"], Float[np.ndarray, "G S"], Int[np.ndarray, "G S"]]:
    """Mean, standard deviation (n - 1) and number of the members by group and row."""
    neurons = member.sum(axis=-1)
    mean = np.where(member, values, 0).sum(axis=-1) / np.where(neurons > 0, neurons, np.nan)
    deviation = np.where(member, values - mean[..., None], 0)
    std = np.sqrt((deviation**2).sum(axis=-1) / np.where(neurons > 1, neurons - 1, np.nan))
    return mean, std, neurons


def _ci95(std: Float[np.ndarray, ...], neurons: Int[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    return 1.96 * std / np.sqrt(np.maximum(neurons, 1))


def _spearman(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Correlation of the ranks, ties at their mean rank; NaN where it is not defined."""
    a, b = _mean_ranks(first), _mean_ranks(second)
    a, b = a - a.sum() / max(len(a), 1), b - b.sum() / max(len(b), 1)
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def _mean_ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    _, where, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[where]
