"""The parts of a model that each localizer and baseline chooses, all under the same budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from relearn_jax import config
from relearn_jax.localize import selection
from relearn_jax.localize.arms import ALL_MLPS, BASELINES, EVERYTHING, RANDOM, RANDOM_MLPS, Arm
from relearn_jax.localize.effects import Effect, Effects, share
from relearn_jax.localize.methods import RULES, SCORES, SETS_BUDGET
from relearn_jax.localize.scores import LayerScores
from relearn_jax.localize.selection import Space, Units

PARTS = tuple(selection.PARTS)


class Choice(NamedTuple):
    """The choices of all localizers and baselines."""

    units: Mapping[Arm, Units]
    budget: int
    """Number of parameters that each may choose."""

    @property
    def methods(self) -> list[str]:
        """The localizers' scores that were chosen by, without baselines."""
        return list(dict.fromkeys(arm.method for arm in self.units if arm not in BASELINES))

    def among_mlps(self, method: str) -> Units:
        """What a method chooses among feed-forward layers, or its one choice."""
        mlps = Arm(method, "mlps")
        return self.units[mlps if mlps in self.units else Arm(method)]


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
    units = {Arm(method): chosen for method, chosen in by_rule.items() if method in SETS_BUDGET}
    for method, parts in scores.items():
        if Arm(method) in units:
            continue
        units[Arm(method)] = by_rule.get(method) or selection.select(
            _unit_scores(parts, effects, method, space, settings), budget, space
        )
        among = {"mlp": _ranking(method, parts["mlp"], settings)}
        units[Arm(method, "mlps")] = selection.select(among, min(budget, mlps), space)
    kinds = selection.kinds(space, settings.granularity)
    units[RANDOM] = selection.random(space, budget, seed, kinds)
    drawn = {"mlp": random_scores(space.layers, seed)}
    units[RANDOM_MLPS] = selection.select(drawn, min(budget, mlps), space)
    units[ALL_MLPS] = selection.everything(space, ("mlp",))
    units[EVERYTHING] = selection.everything(space, PARTS)
    return Choice(units, budget)


def stand_in(choice: Choice) -> Units | None:
    """The choice that stands in for the lookup layers where no facts were planted; None: none does.

    It is that of the first method with a rule of its own; those that set the budget come first.
    """
    arms = [Arm(method) for method in (*SETS_BUDGET, *RULES)]
    return next((choice.units[arm] for arm in arms if arm in choice.units), None)


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
    """Random scores of feed-forward layers; draw 0 is that of `RANDOM_MLPS`."""
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
    scores = {part: _ranking(method, layers, settings) for part, layers in parts.items()}
    if settings.granularity == "matrix":
        kinds = selection.kinds(space, "matrix")
        return {kind: scores[selection.part_of(space, kind)] for kind in kinds}
    heads = Effect(method, "heads", "head")
    if settings.granularity == "head" and heads in effects.values:
        score = SCORES[method]
        shares = score.sign * share(effects.values[heads], effects.totals[score.metric])
        return {"heads": shares, "mlp": scores["mlp"]}
    return scores


def _ranking(
    method: str, layers: LayerScores, settings: config.Localize
) -> Float[np.ndarray, " L"]:
    """The values that components are ranked by: scores, or scores less their nulls.

    A missing null counts as 0.
    """
    less = {"better": SCORES[method].less_null, "all": True, "none": False}[settings.less_null]
    return layers.score - np.nan_to_num(layers.null) if less else layers.score


def to_arrays(choice: Choice) -> dict[str, np.ndarray]:
    """Boolean arrays under the names of a file: `noising/mlp`, `random/heads`, ..."""
    return {
        f"{arm.name}/{kind}": chosen
        for arm, units in choice.units.items()
        for kind, chosen in units.items()
    }


def from_arrays(arrays: Mapping[str, np.ndarray], names: list[str], budget: int) -> Choice:
    """The inverse of `to_arrays`; `names` are those of the arms, in their order."""
    units: dict[Arm, Units] = {Arm.from_name(name): {} for name in names}
    for path, chosen in arrays.items():
        name, kind = path.split("/")
        units[Arm.from_name(name)][kind] = chosen
    return Choice(units, budget)
