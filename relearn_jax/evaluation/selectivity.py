"""Selectivity of a removal: what the target lost, less what the other entity types lost.

Letters: M models, N sentences, Y entity types, R draws of the bootstrap. A model has Y + 2 scores:
F1 on every type, the accuracy on words outside entities (OUTSIDE), which stands for the other types
where there are none, and F1 over all types (ALL), which stands for a target that is no type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from relearn_jax.evaluation import entities

OUTSIDE, ALL = -2, -1
LEARNED = 0.1
"""An entity type with less F1 than this in the base model has not been learned."""
GONE = 0.9
"""Relative loss from which on a target is gone."""
HALF = 0.5
"""Relative loss of the other types, or of the target in a control, up to which they are spared."""
ONE_LABEL = 0.1
"""A model predicts one label nearly everywhere if it gives all other labels to fewer than this
share of the words that the base model gives them to."""

Kind = Literal["unlearned", "collapsed", "slight", "unspecific", "partial", "removed"]
SAID: dict[Kind, str] = {
    "unlearned": "the base model never learned {target}, so its losses mean nothing",
    "collapsed": "the model collapsed, so nothing was removed on its own",
    "slight": "{target} was hardly damaged",
    "unspecific": "the damage is not specific to {target}",
    "partial": "{target} was removed in part, and selectively",
    "removed": "{target} was removed, and selectively",
}
"""What `judge` says, as a clause."""


class Counts(NamedTuple):
    """Counts of M models in each of N sentences."""

    entities: Int[np.ndarray, "M N Y 3"]
    """Correct, predicted and gold entities (`entities.counts`)."""
    words: Int[np.ndarray, "M N 2"]
    """Words outside gold entities, and those of them that the model labels so."""


class Loss(NamedTuple):
    """Relative losses: 1 - score / score of the base model; NaN where that is 0."""

    target: Float[np.ndarray, ...]
    others: Float[np.ndarray, ...]
    """Mean over the other types."""

    @property
    def selectivity(self) -> Float[np.ndarray, ...]:
        return self.target - self.others


class Damage(NamedTuple):
    """What pruning did to a model, as means over seeds; NaN where there is no number."""

    base: float
    """F1 of the base model on the target."""
    target: float
    """Relative losses of the target, of the other types, and of the target in a control."""
    others: float
    control: float
    most_frequent: float
    """Share of words with the label that is predicted most often."""
    base_most_frequent: float


def scores(counts: Counts) -> Float[np.ndarray, "M Y+2"]:
    """The scores of M models."""
    return _scores(counts.entities.sum(1), counts.words.sum(1))


def resampled(counts: Counts, draws: int, seed: int) -> Float[np.ndarray, "R M Y+2"]:
    """`scores` of texts of N sentences drawn with replacement; the same texts for all models."""
    sentences = counts.words.shape[1]
    rng = np.random.default_rng(seed)
    times = rng.multinomial(sentences, np.full(sentences, 1 / sentences), size=draws)
    flat = (x.reshape(*x.shape[:2], -1) for x in counts)
    found, words = (
        np.einsum("RN,MNC->RMC", times.astype(np.float32), x, optimize=True) for x in flat
    )
    return _scores(found.reshape(*found.shape[:2], *counts.entities.shape[2:]), words)


def _scores(found: np.ndarray, words: np.ndarray) -> np.ndarray:
    outside = words[..., 1] / np.maximum(words[..., 0], 1)
    return np.concatenate(
        [entities.f1(found), outside[..., None], entities.f1(found.sum(-2))[..., None]], axis=-1
    )


def others(base: Float[np.ndarray, ...], target: int) -> tuple[int, ...]:
    """The other types that the base model has learned; where there are none, the words outside.

    `base` has the scores of the base model, [Y + 2]. Beside ALL there are no others.
    """
    types = range(len(base) - 2) if target != ALL else ()
    return tuple(y for y in types if y != target and base[y] >= LEARNED) or (OUTSIDE,)


def losses(
    pruned: Float[np.ndarray, "... Y+2"],
    base: Float[np.ndarray, "... Y+2"],
    target: int,
    others: Sequence[int],
) -> Loss:
    """Relative losses of models, from their scores and those of the base model."""
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = np.where(base > 0, 1 - pruned / base, np.nan)
    return Loss(lost[..., target], lost[..., list(others)].mean(-1))


def interval(draws: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "2 ..."]:
    """The middle 95 % of the draws of a bootstrap."""
    if np.isnan(draws).all():
        return np.full((2, *draws.shape[1:]), np.nan)
    return np.nanquantile(draws, (0.025, 0.975), axis=0)


def sentence(kind: Kind, target: str) -> str:
    """What `judge` says, as the beginning of a sentence."""
    said = SAID[kind].format(target=target)
    return said[0].upper() + said[1:]


def judge(damage: Damage) -> Kind:
    """Whether the damage is specific to the target.

    unlearned: the base model never learned the target. collapsed: the model predicts one label
    nearly everywhere, or the other types lost more than half. slight: the target kept more than
    half. unspecific: the target lost no more than the others, or as many random neurons take half
    of it as well. partial: specific, with some of the target left. removed: specific, and at least
    90 % of the target gone.
    """
    if not damage.base >= LEARNED:
        return "unlearned"
    uniform = 1 - damage.most_frequent < ONE_LABEL * (1 - damage.base_most_frequent)
    if uniform or damage.others > HALF:
        return "collapsed"
    if damage.target < HALF:
        return "slight"
    if damage.others >= damage.target or damage.control >= HALF:
        return "unspecific"
    return "removed" if damage.target >= GONE else "partial"
