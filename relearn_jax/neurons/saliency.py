"""Concept saliency: its measures, and their summaries by layer for pruned and unpruned neurons.

Axes: Y concept labels, S state (or block) rows, called layers in the tables, D channels, N = S*D.

Saliency by rank (`paper`, `rank`) is zero-sum: a neuron that did not change rises whenever others
fall, as the untouched embedding state does when late layers lose their gain (specs: relearning
8.5).
`standardized` avoids this. It depends on the neuron's own activations only, so changes of other
neurons do not move it. It does not depend on the neuron's scale either, so a gain near zero does
not hide that a neuron still separates the concept. It does not measure how much of the neuron
reaches the next layer, so read it beside the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from relearn_jax.neurons import ranking
from relearn_jax.neurons.statistics import Moments

BUCKET = 100
HIGH = 0.5
GROUPS = ("all", "pruned", "unpruned")
"""The leading axis, G, of every summary here and of the similarity null."""


class Words(NamedTuple):
    """How pages name a saliency."""

    caption: str
    """Of its table by layer."""
    label: str
    """On an axis."""
    short: str
    """In titles and links: `by rank`."""
    place: str
    """In a sentence on where its panels are: `above by rank and below free of scale`."""
    scale: str
    """Beside the colours of its heat maps."""
    unit: str = ""


class Saliency(NamedTuple):
    """A measure of how strongly a neuron stands for a concept, from its rank or from moments.

    Tables hold it in the column `saliency_NAME`. Exactly one of the two functions is given.
    """

    from_ranks: Callable[[np.ndarray, int], np.ndarray] | None = None
    """From ranks [...] and the number of ranked neurons."""
    from_moments: Callable[[Moments], np.ndarray] | None = None
    """For every label, [Y, S, D]; stages store it under its name."""
    top: float | None = None
    """The largest value there can be; None if there is no bound."""
    words: Words | None = None
    """None: it is in the tables, but on no page."""


class LayerSummary(NamedTuple):
    """Mean by layer for each of GROUPS, half width of its 95 % interval, and number of neurons."""

    mean: Float[np.ndarray, "G S"]
    ci95: Float[np.ndarray, "G S"]
    neurons: Int[np.ndarray, "G S"]


class Redistribution(NamedTuple):
    """High-saliency neurons by layer: their number, and their share of all such neurons."""

    count: Int[np.ndarray, " S"]
    share: Float[np.ndarray, " S"]


class Association(NamedTuple):
    """Two measures over the neurons where both are defined, for each of GROUPS.

    The last axis of `mean`, `std` (n - 1) and `ci95` (half width) is the two measures. `spearman`
    is the rank correlation over all layers, `spearman_by_layer` within each layer. The pooled
    correlation mixes layers and may even differ in sign from all of them (specs: relearning 8.6).
    """

    mean: Float[np.ndarray, "G 2"]
    std: Float[np.ndarray, "G 2"]
    ci95: Float[np.ndarray, "G 2"]
    neurons: Int[np.ndarray, " G"]
    spearman: Float[np.ndarray, " G"]
    spearman_by_layer: Float[np.ndarray, "G S"]


def paper(ranks: Int[np.ndarray, ...], ranked: int) -> Float[np.ndarray, ...]:
    """Saliency in [0, 1] in buckets of 100 ranks, as published (specs: relearning 6.2).

    The saliency is |(b - N/100) / (1 - N/100)| with the zero-based rank i, b = floor(i / 100) + 1
    and N = `ranked`, the number of ranked neurons. Up to 100 neurons have saliency 1.
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

    See the head of this file for its purpose. A label that cannot be contrasted has NaN.
    """
    return ranking.scores_all(moments, "mean_difference")


def stored(moments: Moments) -> dict[str, Float[np.ndarray, "Y S D"]]:
    """What a stage has to store, since no ranks give it: arrays by name of the saliency."""
    return {
        name: np.asarray(measure.from_moments(moments), np.float32)
        for name, measure in SALIENCIES.items()
        if measure.from_moments
    }


def columns(arrays: Mapping[str, np.ndarray]) -> dict[str, Float[np.ndarray, "Y S D"]]:
    """All saliencies by column, from the arrays of a stage: `score` and what `stored` gave."""
    ranks = ranking.ranks(arrays["score"])
    return {
        column(name): measure.from_ranks(ranks, ranks[0].size)
        if measure.from_ranks
        else arrays[name]
        for name, measure in SALIENCIES.items()
    }


def column(name: str) -> str:
    """The column of a saliency in the tables, which is its measure in the table `layers` too."""
    return f"saliency_{name}"


def groups(pruned: Bool[np.ndarray, "S D"]) -> Bool[np.ndarray, "G S D"]:
    """Members of each of GROUPS: all neurons, the pruned, the unpruned."""
    pruned = np.asarray(pruned, bool)
    return np.stack([np.ones_like(pruned), pruned, ~pruned])


def layer_summary(
    values: Float[np.ndarray, "S D"], pruned: Bool[np.ndarray, "S D"]
) -> LayerSummary:
    """Mean of a measure by layer over all, pruned and unpruned neurons; NaN values are left out.

    The interval is 1.96 standard errors (n - 1) to either side. The mean of no neurons is NaN, and
    so is the interval of fewer than two.
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
    """Layers of the neurons with a `paper` saliency above 0.5 (specs: relearning 6.2 and 8.3).

    `ranks` are ranks among all neurons. Leave `kept` out at the base stage, where all neurons
    count. At later stages it marks the unpruned neurons. They are ranked again among themselves, so
    exactly the upper half of them is high. (The paper took the lower half of the base ranking as
    unpruned, whatever was pruned: `base_ranks >= N // 2`.) Null neurons are never high. Shares sum
    to 1, or are NaN if no neuron is high.
    """
    ranks = np.asarray(ranks)
    kept = np.ones(ranks.shape, bool) if kept is None else np.asarray(kept, bool)
    kept_ranks = np.full(ranks.shape, -1)
    kept_ranks[kept] = np.argsort(np.argsort(ranks[kept]))
    high = kept & (paper(kept_ranks, int(kept.sum())) > HIGH)
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
    """Two measures of the same neurons, such as similarity and saliency (specs: relearning 6.4)."""
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
    """Mean and standard deviation (n - 1) of the members, and their number, by group and row."""
    neurons = member.sum(axis=-1)
    mean = np.where(member, values, 0).sum(axis=-1) / np.where(neurons > 0, neurons, np.nan)
    deviation = np.where(member, values - mean[..., None], 0)
    std = np.sqrt((deviation**2).sum(axis=-1) / np.where(neurons > 1, neurons - 1, np.nan))
    return mean, std, neurons


def _ci95(std: Float[np.ndarray, ...], neurons: Int[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    return 1.96 * std / np.sqrt(np.maximum(neurons, 1))


def _spearman(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Correlation of the ranks, ties at their mean rank; NaN where it is undefined."""
    a, b = _mean_ranks(first), _mean_ranks(second)
    a, b = a - a.sum() / max(len(a), 1), b - b.sum() / max(len(b), 1)
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def _mean_ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    _, where, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[where]


SALIENCIES: dict[str, Saliency] = {
    "paper": Saliency(from_ranks=paper, top=1.0),
    "rank": Saliency(
        from_ranks=rank,
        top=1.0,
        words=Words(
            caption="Mean saliency by rank",
            label="saliency by rank",
            short="by rank",
            place="by rank",
            scale="saliency by rank: last to first",
        ),
    ),
    "standardized": Saliency(
        from_moments=standardized,
        words=Words(
            caption="Mean scale-free saliency (standardized mean difference)",
            label="scale-free saliency",
            short="scale-free",
            place="free of scale",
            scale="standardized mean difference",
            unit="standard deviations",
        ),
    ),
}
"""All saliencies by name, in the order of tables and pages."""
SHOWN = {name: measure.words for name, measure in SALIENCIES.items() if measure.words}
"""The words of those that pages show."""
