"""The parts of a model that each localizer and baseline chooses, all under the same budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from relearn_jax import config
from relearn_jax.localize import selection
from relearn_jax.localize.effects import Effect, Effects
from relearn_jax.localize.methods import RULES, SCORES, SETS_BUDGET
from relearn_jax.localize.scores import LayerScores
from relearn_jax.localize.selection import Space, Units

PARTS = tuple(selection.PARTS)
MLPS = "{}_mlps"
"""The arm of a method that chooses among feed-forward layers only."""


class Choice(NamedTuple):
    """The choices of all localizers and baselines."""

    units: Mapping[str, Units]
    """By localizer or baseline."""
    budget: int
    """Number of parameters that each may choose."""


def choose(
    scores: Mapping[str, Mapping[str, LayerScores]],
    effects: Effects,
    space: Space,
    settings: config.Localize,
    seed: int,
) -> Choice:
    """Choose units for every localizer and baseline.

    Args:
      scores: by method and part of a layer.
      effects: for the scores of single heads.
      space: what can be chosen in the model.
      settings: budget and granularity; without a budget, see `Localizer.sets_budget`.
      seed: of the random baselines.
    """
    by_rule = {
        method: RULES[method](scores[method], settings) for method in scores if method in RULES
    }
    mlps = selection.parameter_count(selection.everything(space, ("mlp",)), space)
    budget = _budget(settings, space, by_rule, mlps)
    units = {method: chosen for method, chosen in by_rule.items() if method in SETS_BUDGET}
    for method, parts in scores.items():
        if method in units:
            continue
        units[method] = by_rule.get(method) or selection.select(
            _unit_scores(parts, effects, method, space, settings), budget, space
        )
        among = {"mlp": parts["mlp"].score}
        units[MLPS.format(method)] = selection.select(among, min(budget, mlps), space)
    kinds = selection.kinds(space, settings.granularity)
    units["random"] = selection.random(space, budget, seed, kinds)
    drawn = {"mlp": random_scores(space.layers, seed)}
    units[MLPS.format("random")] = selection.select(drawn, min(budget, mlps), space)
    units["all_mlps"] = selection.everything(space, ("mlp",))
    units["nonlocalized"] = selection.everything(space, PARTS)
    return Choice(units, budget)


def _budget(
    settings: config.Localize, space: Space, by_rule: Mapping[str, Units], mlps: int
) -> int:
    if settings.budget is None:
        # If nothing is chosen, the budget is one layer.
        chosen = [by_rule[method] for method in SETS_BUDGET if method in by_rule]
        counts = [selection.parameter_count(units, space) for units in chosen]
        return max([*counts, mlps // space.layers])
    total = selection.parameter_count(selection.everything(space, PARTS), space)
    return max(int(settings.budget * total), 1)


def random_scores(layers: int, seed: int, draw: int = 0) -> Float[np.ndarray, " L"]:
    """Random scores of feed-forward layers; draw 0 is the baseline `random_mlps`."""
    return np.random.default_rng((seed, draw)).random(layers)


def _unit_scores(
    parts: Mapping[str, LayerScores],
    effects: Effects,
    method: str,
    space: Space,
    settings: config.Localize,
) -> dict[str, np.ndarray]:
    """A method's scores at the granularity of the settings.

    A matrix has the score of its part. A method without scores of heads chooses components.
    """
    scores = {part: layers.score for part, layers in parts.items()}
    if settings.granularity == "matrix":
        kinds = selection.kinds(space, "matrix")
        return {kind: scores[selection.part_of(space, kind)] for kind in kinds}
    heads = Effect(method, "heads", "head")
    if settings.granularity == "head" and heads in effects.values:
        score = SCORES[method]
        shares = share_of(effects, heads, score.sign)
        return {"heads": shares, "mlp": scores["mlp"]}
    return scores


def share_of(effects: Effects, effect: Effect, sign: int = 1) -> np.ndarray:
    """Mean of an effect over the pairs, as a share of the mean total change."""
    total = effects.totals[SCORES[effect.method].metric]
    return sign * effects.values[effect].mean(-1) / total.mean()


def to_arrays(choice: Choice) -> dict[str, np.ndarray]:
    """Boolean arrays under the names of a file: `noising/mlp`, `random/heads`, ..."""
    return {
        f"{method}/{kind}": chosen
        for method, units in choice.units.items()
        for kind, chosen in units.items()
    }


def from_arrays(arrays: Mapping[str, np.ndarray], methods: list[str], budget: int) -> Choice:
    """The inverse of `to_arrays`; `methods` gives the order of the units."""
    units: dict[str, Units] = {method: {} for method in methods}
    for name, chosen in arrays.items():
        method, kind = name.split("/")
        units[method][kind] = chosen
    return Choice(units, budget)
