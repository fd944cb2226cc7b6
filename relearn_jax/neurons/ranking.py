"""How strongly each neuron represents each concept: scores, orders and ranks.

Axes: Y concept labels, S state (or block) rows, D channels, N = S*D neurons, flattened row-major.
This is host code in float64, as differences of nearly equal means decide the order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from relearn_jax import config
from relearn_jax.config import Contrast
from relearn_jax.errors import UserError
from relearn_jax.neurons.statistics import RESOLUTION, Moments


class Ranking(NamedTuple):
    """A way to rank neurons."""

    scores: Callable[[Moments, Contrast, np.ndarray | None], np.ndarray]
    """Scores [Y, S, D] from moments, contrast and the weights of the linear probe."""
    by: str
    """What it ranks by, as the end of a sentence: `{label}` is a label, `{others}` is one of
    CONTRASTS."""
    short: str
    """Its name in figures."""
    probed: bool = False
    """Whether it needs the weights of the linear probe."""


def probeless(
    moments: Moments, label: int, contrast: Contrast = "rest"
) -> Float[np.ndarray, "S D"]:
    """Probeless score of every neuron for one label (Antverg and Belinkov 2022), unscaled.

    `rest`: |mean of the label's words - mean of all other words|, the paper's two classes.
    `pairwise`: the sum over every other label z' of |q(z) - q(z')|, where q(z) is the mean over the
    words of z; labels without words are skipped. Both contrasts agree if there are two labels and
    every word has exactly one.

    Raises UserError if the label has no words, or (`rest`) if it has all of them.
    """
    _require_words(moments, label, contrast)
    return _probeless(moments, np.array([label]), contrast)[0]


def probeless_all(moments: Moments) -> Float[np.ndarray, "S D"]:
    """One score for all labels: the sum over labels z of the pairwise score of z.

    Specs: relearning 4.1.
    """
    return np.nansum(scores_all(moments, "probeless", "pairwise"), axis=0)


def mean_difference(moments: Moments, label: int) -> Float[np.ndarray, "S D"]:
    """|mean of the label's words - mean of the others| over their pooled standard deviation.

    Cohen's d without its sign, in standard deviations, with n - 2 degrees of freedom. It does not
    depend on the neuron's scale or offset. A neuron that does not vary within the two groups (to
    the resolution of float32) scores 0.

    Raises UserError if the label has no words, or all of them.
    """
    _require_words(moments, label, "rest")
    return _mean_difference(moments, np.array([label]))[0]


def scores_all(
    moments: Moments,
    ranking: config.Ranking,
    contrast: Contrast = "rest",
    weights: Float[np.ndarray, "N Y"] | None = None,
) -> Float[np.ndarray, "Y S D"]:
    """Scores of every neuron for every label, by one of RANKINGS.

    Only `probeless` uses `contrast`, and only a ranking that is `probed` uses `weights`. A label
    that cannot be contrasted (without words, or with all words) has only NaN.
    """
    return RANKINGS[ranking].scores(moments, contrast, weights)


def goes_by(ranking: config.Ranking, contrast: Contrast, label: str) -> str:
    """What a ranking for a label ranks by, as the end of a sentence."""
    return RANKINGS[ranking].by.format(label=label, others=CONTRASTS[contrast])


def order(scores: Float[np.ndarray, "*labels S D"]) -> Int[np.ndarray, "*labels N"]:
    """Neuron ids from the highest score to the lowest; NaN comes last.

    Neurons with equal scores keep ascending ids. NeuroX reverses an unstable ascending sort, so its
    order among equal scores is undefined (mostly descending ids); otherwise the orders are equal.
    """
    scores = np.asarray(scores)
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.argsort(-flat, axis=-1, kind="stable")


def ranks(scores: Float[np.ndarray, "*labels S D"]) -> Int[np.ndarray, "*labels S D"]:
    """Rank of every neuron: its position in `order`, 0 for the best."""
    ids = order(scores)
    positions = np.empty(ids.shape, np.int32)
    np.put_along_axis(positions, ids, np.arange(ids.shape[-1], dtype=np.int32), axis=-1)
    return positions.reshape(np.shape(scores))


def _require_words(moments: Moments, label: int, contrast: Contrast) -> None:
    inside, total = float(moments.count[label]), float(moments.count[-1])
    if inside == 0:
        raise UserError(
            f"concept label {label} has no words, so no neuron can be ranked for it; "
            "choose a concept that occurs in the concept data, or read more sentences of it"
        )
    if contrast == "rest" and inside == total:
        raise UserError(
            f"concept label {label} covers all {total:.0f} words, so there is nothing to contrast "
            "it with; the concept data must also hold words that do not belong to it"
        )


def _rest_difference(
    moments: Moments, labels: Int[np.ndarray, " K"]
) -> tuple[Float[np.ndarray, "K S D"], Float[np.ndarray, "K 1 1"], Float[np.ndarray, "K 1 1"]]:
    """Mean of each label minus the mean of all other words, and the two word counts."""
    mean = np.asarray(moments.mean, np.float64)
    count = np.asarray(moments.count, np.float64)[:, None, None]
    inside = count[labels]
    outside = count[-1] - inside
    defined = (inside > 0) & (outside > 0)
    rest = (count[-1] * mean[-1] - inside * mean[labels]) / np.where(defined, outside, np.nan)
    return mean[labels] - rest, inside, outside


def _probeless(
    moments: Moments, labels: Int[np.ndarray, " K"], contrast: Contrast
) -> Float[np.ndarray, "K S D"]:
    if contrast == "rest":
        return np.abs(_rest_difference(moments, labels)[0])
    count, mean = np.asarray(moments.count), np.asarray(moments.mean, np.float64)
    scores = np.zeros((len(labels), *mean.shape[1:]))
    for other in np.flatnonzero(count[:-1] > 0):
        scores += np.abs(mean[labels] - mean[other])
    scores[count[labels] == 0] = np.nan
    return scores


def _mean_difference(moments: Moments, labels: Int[np.ndarray, " K"]) -> Float[np.ndarray, "K S D"]:
    difference, inside, outside = _rest_difference(moments, labels)
    total = inside + outside
    m2 = np.asarray(moments.m2[-1], np.float64)
    # Squared deviations: within the two groups = of all words - between the groups.
    within = m2 - inside * outside / total * difference**2
    deviation = np.sqrt(np.maximum(within, 0) / np.maximum(total - 2, 1))
    resolution = RESOLUTION * np.abs(np.asarray(moments.mean[-1], np.float64))
    varies = (deviation > resolution) & (within > RESOLUTION * m2)
    scores = np.abs(difference) / np.where(varies, deviation, 1)
    return np.where(varies | np.isnan(difference), scores, 0.0)


def _labels(moments: Moments) -> Int[np.ndarray, " Y"]:
    return np.arange(len(moments.count) - 1)


def _probe_scores(moments: Moments, weights: Float[np.ndarray, "N Y"]) -> np.ndarray:
    """The size of every neuron's weight for every label, [Y, S, D]."""
    return np.abs(np.asarray(weights)).T.reshape(-1, *moments.mean.shape[1:])


CONTRASTS: dict[Contrast, str] = {
    "rest": "their mean over other words",
    "pairwise": "their mean over the words of each other label, added up over these labels",
}
"""What the mean over the words of a label is compared with, in words."""
RANKINGS: dict[config.Ranking, Ranking] = {
    "probeless": Ranking(
        lambda moments, contrast, _: _probeless(moments, _labels(moments), contrast),
        "how far their mean over words of {label} lies from {others}",
        "difference of means",
    ),
    "mean_difference": Ranking(
        lambda moments, *_: _mean_difference(moments, _labels(moments)),
        "how far their mean over words of {label} lies from their mean over other words, in "
        "standard deviations",
        "standardized difference",
    ),
    "linear_probe": Ranking(
        lambda moments, _, weights: _probe_scores(moments, weights),
        "the size of the weight that a linear probe, trained on all neurons at once, gives them "
        "for {label}",
        "linear probe",
        probed=True,
    ),
}
"""Rankings by name in a config."""
