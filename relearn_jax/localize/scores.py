"""From effects to one score for each attention block and feed-forward layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from relearn_jax.localize.effects import Effect, Effects, Metric, Place

PARTS: dict[str, Place] = {"attention": "attention", "mlp": "mlp_out"}
"""Part of a layer -> the place where it adds to the stream."""
RESAMPLES = 1000


class Score(NamedTuple):
    """A column of scores that a localizer gives, and how reports name it."""

    sign: int
    """Of an effect that moves the answer as the whole corruption does (or brings it back)."""
    label: str
    """`causal tracing`"""
    short: str
    """For axes: `tracing`."""
    about: str
    """One sentence; settings in braces: `{localize.draws}`."""
    source: str
    """The papers it comes from."""
    metric: Metric = "logit_difference"
    null: str = ""
    """Another score whose null also serves this one."""


class LayerScores(NamedTuple):
    """Scores of one part of every layer, with 95 % intervals, beside those of the null."""

    score: Float[np.ndarray, " L"]
    low: Float[np.ndarray, " L"]
    high: Float[np.ndarray, " L"]
    null: Float[np.ndarray, " L"]
    null_low: Float[np.ndarray, " L"]
    null_high: Float[np.ndarray, " L"]


def null_of(effect: Effect, score: Score) -> Effect:
    """The null of an effect: the same between two runs that both lack the fact."""
    return effect._replace(method=score.null or effect.method, null=True)


def by_part(effects: Effects, method: str, null: bool = False) -> dict[str, np.ndarray]:
    """[L, B] for each part of a layer: the effect of the whole place.

    Methods that measure single positions alone are summed over them.
    """
    values = {}
    for part, place in PARTS.items():
        whole = Effect(method, place, "layer", null)
        by_position = whole._replace(axis="position")
        if whole in effects.values:
            values[part] = effects.values[whole]
        elif by_position in effects.values:
            values[part] = effects.values[by_position].sum(1)
    return values


def layer_scores(
    effects: Effects, scores: Mapping[str, Score], seed: int
) -> dict[str, dict[str, LayerScores]]:
    """By method and part: shares of the whole change, with a bootstrap over pairs.

    A score is positive where the effect moves the answer as the whole corruption does (noising,
    attribution), or brings it back (denoising, tracing, paths). A null is positive where it moves
    the answer away from that of the patched run.
    """
    by_method: dict[str, dict[str, LayerScores]] = {}
    for method, score in scores.items():
        nulls = by_part(effects, score.null or method, null=True)
        for part, values in by_part(effects, method).items():
            total = effects.totals[score.metric]
            means = share(score.sign * values, total, seed)
            by_method.setdefault(method, {})[part] = LayerScores(
                *means, *share(nulls[part], total, seed)
            )
    return by_method


def share(
    effect: Float[np.ndarray, "... B"], total: Float[np.ndarray, " B"], seed: int
) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """Mean effect over mean total change, and the 95 % interval of a bootstrap over pairs."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(total), (RESAMPLES, len(total)))
    weights = np.stack([np.bincount(r, minlength=len(total)) for r in rows]) / len(total)
    resampled = (effect @ weights.T) / (weights @ total)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=-1)
    return effect.mean(-1) / total.mean(), low, high
