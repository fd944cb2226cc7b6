"""The choice of neurons to prune, and of control neurons.

A choice is a boolean array [S, D], True for the neurons that are pruned: S rows (states 0..L for
site `states`, the L blocks for site `mlp`), D channels, N = S*D neurons. `models.masks.of_neurons`
turns a choice into a mask of parameters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from relearn_jax import config
from relearn_jax.errors import UserError
from relearn_jax.neurons import ranking

Pruned = Bool[np.ndarray, "S D"]


class Selection(NamedTuple):
    """The pruned neurons, and the requested number, which may be larger than `pruned.sum()`."""

    pruned: Pruned
    requested: int


def prunable(shape: tuple[int, int], site: config.Site) -> Bool[np.ndarray, "S D"]:
    """Prunable neurons: all except state 0, which no block computes."""
    allowed = np.ones(shape, bool)
    if site == "states":
        allowed[0] = False
    return allowed


def select(
    scores: Float[np.ndarray, "S D"], settings: config.Prune, site: config.Site = "states"
) -> Selection:
    """Prune the neurons with the highest scores (specs: relearning 4.2).

    The number is `count`, or the `fraction` of all S*D neurons (state 0 included, as in the paper)
    rounded down, but at most the number of prunable neurons. Scope `per_layer` takes the same
    number from each row, rounded down. State 0 is skipped. With `embedding_state: faithful` it
    competes with its own scores, but the same channels of the LAST row are pruned instead (bug B of
    specs: relearning 4.3); a channel chosen twice counts once in `pruned` and twice in `requested`.

    Raises UserError for a fraction outside (0, 1], a count outside 1..prunable, a mask that would
    prune nothing, and scores that are all NaN.
    """
    scores = np.asarray(scores)
    if np.isnan(scores).all():
        raise UserError(
            "prune: no neuron has a score for the target concept; the concept data must hold words "
            "of it and other words besides"
        )
    allowed, number = (
        _allowed(settings, scores.shape, site),
        requested(settings, scores.shape, site),
    )
    if not number:
        if settings.scope == "per_layer":
            raise UserError(
                f"prune: fewer neurons than the {_rows(allowed)} layers that should each give the "
                "same number, so nothing is pruned; raise the fraction, or set scope to pooled"
            )
        raise UserError(
            f"prune.fraction {settings.fraction} of {scores.size} neurons is less than one, so the "
            "mask selects nothing; raise the fraction or set prune.count"
        )
    if settings.scope == "per_layer":
        chosen = _best_by_row(scores, allowed * (number // _rows(allowed)), allowed)
    else:
        chosen = _best(scores, number, allowed)
    if _faithful(settings, site):
        chosen[-1] |= chosen[0]
        chosen[0] = False
    return Selection(chosen, number)


def requested(settings: config.Prune, shape: tuple[int, int], site: config.Site = "states") -> int:
    """Number of neurons that `select` is asked for; 0 for less than one, or less than one a row.

    Raises UserError for a fraction outside (0, 1] and a count outside 1..prunable.
    """
    allowed, neurons = _allowed(settings, shape, site), math.prod(shape)
    most = int(allowed.sum())
    if settings.count is not None:
        if not 1 <= settings.count <= most:
            raise UserError(
                f"prune.count is {settings.count}, but between 1 and {most} neurons can be "
                "pruned here; change the count or use prune.fraction"
            )
        number = settings.count
    elif not 0 < settings.fraction <= 1:
        raise UserError(
            f"prune.fraction is {settings.fraction}, but it must lie in (0, 1]; 0.5 prunes half"
        )
    else:
        # Without the tolerance, 0.29 * 100 would be rounded down to 28.
        number = min(math.floor(settings.fraction * neurons + 1e-9), most)
    rows = _rows(allowed)
    return number // rows * rows if settings.scope == "per_layer" else number


def _faithful(settings: config.Prune, site: config.Site) -> bool:
    return site == "states" and settings.embedding_state == "faithful"


def _allowed(
    settings: config.Prune, shape: tuple[int, int], site: config.Site
) -> Bool[np.ndarray, "S D"]:
    """The neurons that compete."""
    return np.ones(shape, bool) if _faithful(settings, site) else prunable(shape, site)


def _rows(allowed: Bool[np.ndarray, "S D"]) -> int:
    return int(allowed.any(axis=1).sum())


def random(concept: Pruned, site: config.Site, seed: int) -> Pruned:
    """Control: as many neurons as `concept` prunes, uniformly from all prunable neurons."""
    draw = np.random.default_rng((seed, 0)).random(concept.shape)
    return _best(draw, int(concept.sum()), prunable(concept.shape, site))


def layer_matched(concept: Pruned, site: config.Site, seed: int) -> Pruned:
    """Control: random neurons, from each row as many as `concept` prunes there."""
    draw = np.random.default_rng((seed, 1)).random(concept.shape)
    return _as_many_by_row(draw, concept, site)


def bottom(
    concept: Pruned, site: config.Site, scores: Float[np.ndarray, "S D"], scope: str = "pooled"
) -> Pruned:
    """Control: as many neurons as `concept` prunes, with the lowest scores.

    With scope `per_layer`, from each row as many as `concept` prunes there. If `concept` prunes
    more than half of the prunable neurons, the two share some.
    """
    # The order is reversed, not the sign, so that NaN and ties keep their end of the ranking.
    lowest = ranking.ranks(scores)
    if scope == "per_layer":
        return _as_many_by_row(lowest, concept, site)
    return _best(lowest, int(concept.sum()), prunable(lowest.shape, site))


def _as_many_by_row(scores: Float[np.ndarray, "S D"], concept: Pruned, site: config.Site) -> Pruned:
    return _best_by_row(scores, concept.sum(axis=1, keepdims=True), prunable(concept.shape, site))


def _best(
    scores: Float[np.ndarray, "S D"], number: int, allowed: Bool[np.ndarray, "S D"]
) -> Bool[np.ndarray, "S D"]:
    """The `number` highest scores among the allowed neurons."""
    ids = ranking.order(scores)
    ids = ids[allowed.ravel()[ids]][:number]
    chosen = np.zeros(scores.size, bool)
    chosen[ids] = True
    return chosen.reshape(scores.shape)


def _best_by_row(
    scores: Float[np.ndarray, "S D"],
    number: Int[np.ndarray, "S _"],
    allowed: Bool[np.ndarray, "S D"],
) -> Bool[np.ndarray, "S D"]:
    return (ranking.ranks(scores[:, None, :])[:, 0] < number) & allowed
