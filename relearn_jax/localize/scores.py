"""Scores of attention blocks and feed-forward layers, from effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from relearn_jax.localize.effects import Effect, Effects, Location, Metric, share

PARTS: dict[str, Location] = {"attention": "attention", "mlp": "mlp_out"}
"""Part of a layer -> the place of its output, which is added to the residual stream."""
RESAMPLES = 1000


class Score(NamedTuple):
    """A column of scores from a localizer, and how reports name it."""

    sign: int
    """Sign of an effect that moves the answer as the whole corruption does (or restores it)."""
    label: str
    """Full name, such as `causal tracing`."""
    short: str
    """Short name for axes, such as `tracing`."""
    about: str
    """One sentence; settings stand in braces: `{localize.draws}`."""
    source: str
    """The papers that describe it."""
    metric: Metric = "logit_difference"
    unit: str = "share of change"
    """Of the score, for axes."""
    signed: bool = False
    """Whether only a positive score is a sign of fact lookup; else its size counts."""
    null: str = ""
    """Name of another score whose null also serves this score; empty: its own null."""
    less_null: bool = False
    """Whether planted layers are found more often by the score less its null
    (docs/results_localization.md)."""


class LayerScores(NamedTuple):
    """Scores of one part of every layer and of their null, with 95 % intervals."""

    score: Float[np.ndarray, " L"]
    low: Float[np.ndarray, " L"]
    high: Float[np.ndarray, " L"]
    null: Float[np.ndarray, " L"]
    null_low: Float[np.ndarray, " L"]
    null_high: Float[np.ndarray, " L"]


def null_of(effect: Effect, score: Score) -> Effect:
    """The null of an effect: the same measurement between two runs that both lack the fact."""
    return effect._replace(method=score.null or effect.method, null=True)


def by_part(effects: Effects, method: str, null: bool = False) -> dict[str, np.ndarray]:
    """Effect of each part of every layer, [L, B], at all positions.

    For methods that only measure single positions, effects are summed over positions.
    """
    values = {}
    for part, place in PARTS.items():
        by_layer = Effect(method, place, "layer", null)
        by_position = by_layer._replace(axis="position")
        if by_layer in effects.values:
            values[part] = effects.values[by_layer]
        elif by_position in effects.values:
            values[part] = effects.values[by_position].sum(1)
    return values


def layer_scores(
    effects: Effects, scores: Mapping[str, Score], seed: int
) -> dict[str, dict[str, LayerScores]]:
    """By method and part: shares of the whole change, with a bootstrap over pairs.

    A score is positive where the effect moves the answer as the whole corruption does (noising,
    attribution), or restores it (denoising, tracing, paths). A null is positive where it moves the
    answer away from the answer of the patched run.
    """
    by_method: dict[str, dict[str, LayerScores]] = {}
    for method, score in scores.items():
        nulls = by_part(effects, score.null or method, null=True)
        for part, values in by_part(effects, method).items():
            total = effects.totals[score.metric]
            means = with_interval(score.sign * values, total, seed)
            by_method.setdefault(method, {})[part] = LayerScores(
                *means, *with_interval(nulls[part], total, seed)
            )
    return by_method


def with_interval(
    effect: Float[np.ndarray, "... B"], total: Float[np.ndarray, " B"], seed: int
) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """`effects.share`, and the 95 % interval of a bootstrap over pairs."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(total), (RESAMPLES, len(total)))
    weights = np.stack([np.bincount(r, minlength=len(total)) for r in rows]) / len(total)
    resampled = (effect @ weights.T) / (weights @ total)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=-1)
    return share(effect, total), low, high
