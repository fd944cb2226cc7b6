"""Points of the dose curve: which neurons are pruned by ranking, arm and share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from relearn_jax import config
from relearn_jax.config import Relearning
from relearn_jax.errors import UserError
from relearn_jax.experiments.concepts import pruning, sets
from relearn_jax.experiments.concepts.pruning import Scores
from relearn_jax.experiments.concepts.sets import ConceptSet, Group
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import choice, statistics


class Point(NamedTuple):
    """A point of a curve."""

    target: str
    """The concept."""
    ranking: config.Ranking
    zeroed: config.Zeroed
    arm: config.Arm
    fraction: float


def points(settings: Relearning, model: Model) -> list[Point]:
    """All points of the curve of a seed that prune at least one neuron."""
    dose, prune = settings.dose, settings.prune
    zeroed = dict.fromkeys((prune.target, *dose.targets))
    names = dict.fromkeys(name for _, name in pruning.rankings(settings))
    product = (
        Point(target, ranking, place, arm, fraction)
        for target in sets.targets(settings)
        for place in zeroed
        for ranking in names
        for arm in dose.arms or settings.arms
        if arm != "oracle"
        for fraction in fractions(settings, model)
    )
    return [point for point in product if neurons(settings, model, point)]


def check(settings: Relearning, model: Model) -> None:
    """Raise UserError if there are fractions, and none of them prunes a neuron."""
    if settings.dose.fractions and not points(settings, model):
        most = max(settings.dose.fractions)
        raise UserError(
            f"dose.fractions: even the largest, {100 * most:g} %, prunes no neuron of this model; "
            "add larger ones, or leave the curve out with dose.fractions: []"
        )


def fractions(settings: Relearning, model: Model) -> list[float]:
    """The fractions of the curve: those of the settings, and those that are pruned."""
    if not settings.dose.fractions:
        return []
    size = math.prod(statistics.neuron_shape(model, settings.concepts.site))
    pruned = {
        group.fraction if group.count is None else group.count / size
        for group in sets.groups(settings)
    }
    return sorted({*settings.dose.fractions, *pruned} - {"auto"})


def neurons(settings: Relearning, model: Model, point: Point) -> int:
    """The number of neurons that a point prunes."""
    site = pruning.site_of(point.zeroed)
    return choice.requested(_prune(settings, point), statistics.neuron_shape(model, site), site)


def mask(
    settings: Relearning, seed: int, point: Point, scores: Scores, concepts: Sequence[str]
) -> Bool[np.ndarray, "S D"]:
    """The neurons that a point prunes: the same as a concept set of this fraction prunes."""
    regrowth = next(g.regrowth for g in sets.groups(settings) if g.target == point.target)
    group = Group(point.target, point.fraction, None, regrowth)
    site = pruning.site_of(point.zeroed)
    return pruning.choose(
        _prune(settings, point),
        site,
        ConceptSet(seed, group, point.arm),
        scores[site, point.ranking],
        concepts.index(point.target),
    )


def _prune(settings: Relearning, point: Point) -> config.Prune:
    by_gain = point.zeroed in ("ln_gain", "ln_gain_bias")
    return dataclasses.replace(
        settings.prune,
        ranking=point.ranking,
        target=point.zeroed,
        fraction=point.fraction,
        count=None,
        embedding_state=settings.prune.embedding_state if by_gain else "exclude",
    )
