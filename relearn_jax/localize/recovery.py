"""How well scores of feed-forward layers find the layers that facts were planted in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from relearn_jax.localize import selection
from relearn_jax.localize.arms import RANDOM_MLPS, Arm
from relearn_jax.localize.choice import random_scores
from relearn_jax.localize.methods import SCORES
from relearn_jax.localize.scores import LayerScores
from relearn_jax.localize.selection import Space

DRAWS = 100
"""Number of draws of random layers, to compare methods with."""


class Recovery(NamedTuple):
    """What N rankings of the feed-forward layers find; N is 1 but for random layers."""

    chosen: Bool[np.ndarray, "N L"]
    """The layers with the largest scores, as many as were planted."""
    roc_area: Float[np.ndarray, " N"]


def recover(
    scores: Mapping[str, Mapping[str, LayerScores]],
    planted: Bool[np.ndarray, " L"],
    space: Space,
    seed: int,
) -> dict[Arm, Recovery]:
    """What the scores of every method find, and what random scores find.

    Args:
      scores: by method and part of a layer.
      planted: the layers that the facts were planted in.
      space: what can be chosen in the model.
      seed: of the random scores.
    """
    found = {}
    for method, parts in scores.items():
        score = parts["mlp"].score
        size = np.maximum(score, 0) if SCORES[method].signed else np.abs(score)
        found[Arm(method)] = _found([size], planted, space)
    draws = [random_scores(space.layers, seed, n) for n in range(DRAWS)]
    return found | {RANDOM_MLPS: _found(draws, planted, space)}


def _found(
    rankings: list[Float[np.ndarray, " L"]], planted: Bool[np.ndarray, " L"], space: Space
) -> Recovery:
    budget = int(planted.sum()) * selection.sizes(space)["mlp"]
    chosen = [selection.select({"mlp": scores}, budget, space)["mlp"] for scores in rankings]
    areas = [selection.roc_area(scores, planted) for scores in rankings]
    return Recovery(np.array(chosen), np.array(areas, np.float64))


def to_arrays(recoveries: Mapping[Arm, Recovery]) -> dict[str, np.ndarray]:
    """Arrays under the names of a file: `noising/chosen`, `random_mlps/roc_area`, ..."""
    return {
        f"{arm.name}/{field}": array
        for arm, recovery in recoveries.items()
        for field, array in recovery._asdict().items()
    }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> dict[Arm, Recovery]:
    """The inverse of `to_arrays`, in the order of the registry; random layers come last."""
    arms = [*map(Arm, SCORES), RANDOM_MLPS]
    return {
        arm: Recovery(*(arrays[f"{arm.name}/{field}"] for field in Recovery._fields))
        for arm in arms
        if f"{arm.name}/chosen" in arrays
    }
