"""Selection of units by score until a parameter budget is spent, and their parameters.

The kinds of units are the keys of the scores. Granularities (specs: mechanistic unlearning 3):

    component   "attention", "mlp" [L]: all matrices of a layer's attention block or feed-forward
                layer
    head        "heads" [L, H], "mlp" [L]: a head's columns of the query matrix and rows of the
                output matrix, with its keys and values, which it may share with other heads
    matrix      "query", "down" and so on [L]: one matrix of one layer

Embeddings, norms and biases belong to no unit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from relearn_jax.errors import UserError
from relearn_jax.models import masks, weights
from relearn_jax.models.masks import Mask
from relearn_jax.models.transformer import Model

Granularity = Literal["component", "head", "matrix"]
PARTS = {
    "attention": r"blocks/(query|key|value|qkv|attention_out)/kernel",
    "mlp": r"blocks/(gate|up|down)/kernel",
}
Scores = Mapping[str, Float[np.ndarray, "L ..."]]
"""By kind of unit; NaN where a unit may not be chosen."""
Units = dict[str, Bool[np.ndarray, "L ..."]]
"""By kind of unit, True for chosen units; no unit of a missing kind is chosen."""


class Space(NamedTuple):
    """The matrices that can be chosen from."""

    layers: int
    heads: int
    matrices: Mapping[str, Mapping[str, tuple[int, int]]]
    """Part -> path -> (rows, columns) of one layer's matrix."""
    owned: Mapping[str, tuple[int, Bool[np.ndarray, "H N"]]]
    """Path -> the axis that is divided among heads (1 rows, 2 columns), and what each head owns."""

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """The shape of every stacked matrix, by path."""
        return {
            path: (self.layers, *sides)
            for matrices in self.matrices.values()
            for path, sides in matrices.items()
        }


def space(model: Model) -> Space:
    """The matrices of a model that can be chosen."""
    shapes = weights.shapes(model)
    matrices = {
        part: {path: shape[1:] for path, shape in shapes.items() if re.fullmatch(rule, path)}
        for part, rule in PARTS.items()
    }
    owned = model.family.heads(model.config) if model.family.heads else {}
    return Space(model.config.layers, model.config.heads, matrices, owned)


def kinds(space: Space, granularity: Granularity) -> dict[str, tuple[int, ...]]:
    """The kinds of units of a granularity, with the shape of their scores."""
    if granularity == "component":
        return dict.fromkeys(PARTS, (space.layers,))
    if granularity == "head":
        return {"heads": (space.layers, space.heads), "mlp": (space.layers,)}
    names = [path.split("/")[1] for paths in space.matrices.values() for path in paths]
    return dict.fromkeys(names, (space.layers,))


def part_of(space: Space, kind: str) -> str:
    """The part of a layer, `attention` or `mlp`, that units of a kind belong to."""
    if kind in PARTS:
        return kind
    return "attention" if kind == "heads" or _path(kind) in space.matrices["attention"] else "mlp"


def mask(units: Units, space: Space) -> Mask:
    """The parameters of chosen units, as an array [L, r, c] for every matrix of the space.

    r (or c) is 1 if each row (or column) is either chosen entirely or not at all.
    """
    marked = {path: np.zeros((space.layers, 1, 1), bool) for path in space.shapes}
    for kind, chosen in units.items():
        for path in space.owned if kind == "heads" else space.matrices.get(kind, (_path(kind),)):
            if kind == "heads":
                axis, owned = space.owned[path]
                rows = np.expand_dims(chosen @ owned, 3 - axis)
            else:
                rows = chosen[:, None, None]
            marked[path] = marked[path] | rows
    return Mask(marked)


def parameter_count(units: Units, space: Space) -> int:
    """Exact number of parameters in the chosen units."""
    return masks.count(mask(units, space), space.shapes)


def counts(units: Units, space: Space) -> dict[str, Int[np.ndarray, " L"]]:
    """Number of chosen parameters by part and layer."""
    marked, shapes = mask(units, space).marked, space.shapes
    return {
        part: sum(masks.count_by_layer(marked[path], shapes[path]) for path in matrices)
        for part, matrices in space.matrices.items()
    }


def sizes(space: Space) -> dict[str, int]:
    """Parameters of one layer's attention and feed-forward matrices."""
    return {
        part: sum(math.prod(shape) for shape in paths.values())
        for part, paths in space.matrices.items()
    }


def select(scores: Scores, budget: int, space: Space, overshoot: bool = True) -> Units:
    """The units with the largest absolute scores, up to a budget of parameters.

    Units of score 0 are not chosen, so the budget may not be spent.

    Args:
      scores: by kind of unit, all of one granularity. Missing kinds are not chosen from.
      budget: a number of parameters.
      space: the space of the model.
      overshoot: True: the unit that crosses the budget is also taken (as published). False: a unit
        that would cross it is skipped, and the next unit that fits is taken.

    Raises:
      UserError: the budget is not positive, is larger than all units together, or (without
        overshoot) is smaller than every unit.
    """
    allowed = {kind: ~np.isnan(row) for kind, row in scores.items()}
    total = parameter_count(allowed, space)
    if not 0 < budget <= total:
        size = sizes(space)
        raise UserError(
            f"localize.budget of {budget:,} parameters: there are {total:,} in what can be chosen "
            f"({size['attention']:,} in an attention block, {size['mlp']:,} in a feed-forward "
            "layer); take a number between"
        )
    ranked = sorted(
        (-abs(float(scores[kind][unit])), kind, unit)
        for kind, rows in allowed.items()
        for unit in zip(*np.nonzero(rows), strict=True)
    )
    chosen: Units = {kind: np.zeros(np.shape(row), bool) for kind, row in scores.items()}
    spent = 0
    for score, kind, unit in ranked:
        if spent >= budget or score == 0:
            break
        # Heads may share keys and values: a unit's price depends on what its layer has.
        before = _in_layer(chosen, unit[0], space)
        chosen[kind][unit] = True
        price = _in_layer(chosen, unit[0], space) - before
        if overshoot or spent + price <= budget:
            spent += price
        else:
            chosen[kind][unit] = False
    if not spent and any(score for score, _, _ in ranked):
        raise UserError(
            f"localize.budget of {budget:,} parameters is less than one unit; raise it, or let the "
            "last unit cross it"
        )
    return chosen


def _in_layer(chosen: Units, layer: int, space: Space) -> int:
    rows = {kind: units[layer : layer + 1] for kind, units in chosen.items()}
    return parameter_count(rows, space._replace(layers=1))


def random(space: Space, budget: int, seed: int, kinds: Mapping[str, tuple[int, ...]]) -> Units:
    """Baseline: units of these kinds and shapes, drawn uniformly until the budget is spent."""
    rng = np.random.default_rng((seed, len(kinds)))
    return select({kind: rng.random(shape) for kind, shape in kinds.items()}, budget, space)


def everything(space: Space, parts: tuple[str, ...]) -> Units:
    """Baseline: all components of these parts (of both parts: all that can be chosen)."""
    return {part: np.ones(space.layers, bool) for part in parts}


def overlap(a: Units, b: Units, space: Space) -> float:
    """Jaccard index of two choices in parameters, shared over union; NaN where both are empty."""
    mask_a, mask_b = mask(a, space), mask(b, space)
    both = masks.count(masks.intersection(mask_a, mask_b), space.shapes)
    either = masks.count(masks.union(mask_a, mask_b), space.shapes)
    return both / either if either else math.nan


def _path(kind: str) -> str:
    return f"blocks/{kind}/kernel"


def roc_area(scores: Float[np.ndarray, " N"], truth: Bool[np.ndarray, " N"]) -> float:
    """Area under the ROC curve of the scores as predictor of `truth`; ties count half.

    NaN if all entries are true, or none.
    """
    positive, negative = scores[truth], scores[~truth]
    if not len(positive) or not len(negative):
        return math.nan
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def precision_recall(chosen: Bool[np.ndarray, " N"], truth: Bool[np.ndarray, " N"]) -> tuple:
    """Precision (share of chosen entries that are true) and recall; NaN for 0 of 0."""
    hits = int((chosen & truth).sum())
    return (
        hits / int(chosen.sum()) if chosen.any() else math.nan,
        hits / int(truth.sum()) if truth.any() else math.nan,
    )
