"""From scores to parameters: components are taken by score until a parameter budget is spent.

A component is the attention block or the feed-forward layer of one layer, with all its matrices
(specs: mechanistic unlearning 3). Embeddings, norms and biases belong to none. What is chosen
becomes the multipliers that all masks of the project are (`neurons.masks`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from relearn_jax.errors import UserError

PARTS = {
    "attention": r"blocks/(query|key|value|qkv|attention_out)/kernel",
    "mlp": r"blocks/(gate|up|gate_up|down)/kernel",
}
Scores = Mapping[str, Float[np.ndarray, " L"]]
"""For `attention`, `mlp` or both: a score for every layer; NaN where a layer may not be chosen."""


@dataclass(frozen=True, eq=False)
class Components:
    """Chosen attention blocks and feed-forward layers."""

    attention: Bool[np.ndarray, " L"]
    mlp: Bool[np.ndarray, " L"]


def sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Parameters of one layer's attention and feed-forward matrices, from the model's shapes."""
    return {
        part: sum(
            math.prod(shape[1:]) for path, shape in shapes.items() if re.fullmatch(rule, path)
        )
        for part, rule in PARTS.items()
    }


def parameter_count(chosen: Components, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Exact number of parameters in the chosen components."""
    size = sizes(shapes)
    return sum(int(getattr(chosen, part).sum()) * size[part] for part in PARTS)


def select(
    scores: Scores, budget: int, shapes: Mapping[str, tuple[int, ...]], overshoot: bool = True
) -> Components:
    """The components with the largest absolute scores that fill a budget of parameters.

    Args:
      scores: by part and layer. A part that is not given is not chosen from.
      budget: a number of parameters.
      shapes: those of the model's parameters (`weights.shapes`).
      overshoot: True: the component that crosses the budget is taken too (as published); False: the
        components stay below it, and the next that still fits is taken.

    Raises:
      UserError: the budget is not positive, is larger than all components together, or (without
        overshoot) holds none.
    """
    size = sizes(shapes)
    ranked = sorted(
        (-abs(float(score)), part, layer)
        for part, row in scores.items()
        for layer, score in enumerate(row)
        if not math.isnan(score)
    )
    total = sum(size[part] for _, part, _ in ranked)
    if not 0 < budget <= total:
        raise UserError(
            f"localize.budget of {budget:,} parameters: there are {total:,} in the components that "
            f"can be chosen ({size['attention']:,} in an attention block, {size['mlp']:,} in a "
            "feed-forward layer); take a number between"
        )
    chosen = {part: np.zeros(_layers(shapes), bool) for part in PARTS}
    spent = 0
    for _, part, layer in ranked:
        if spent >= budget:
            break
        if overshoot or spent + size[part] <= budget:
            chosen[part][layer] = True
            spent += size[part]
    if not spent:
        raise UserError(
            f"localize.budget of {budget:,} parameters is less than one component; the smallest "
            f"has {min(size[part] for part in scores):,}"
        )
    return Components(**chosen)


def random(
    shapes: Mapping[str, tuple[int, ...]], budget: int, seed: int, parts: tuple[str, ...]
) -> Components:
    """Baseline: components of these parts drawn uniformly until the budget is spent."""
    draw = np.random.default_rng((seed, len(parts))).random((len(parts), _layers(shapes)))
    return select(dict(zip(parts, draw, strict=True)), budget, shapes)


def everything(shapes: Mapping[str, tuple[int, ...]], parts: tuple[str, ...]) -> Components:
    """Baseline: all components of these parts (both: the nonlocalized arm)."""
    layers = _layers(shapes)
    return Components(**{part: np.full(layers, part in parts) for part in PARTS})


def multipliers(
    chosen: Components, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Float[np.ndarray, ...]]:
    """By path: 1 in the matrices of chosen components, 0 in all other parameters, broadcasting."""
    found: dict[str, np.ndarray] = {}
    for path, shape in shapes.items():
        part = next((p for p, rule in PARTS.items() if re.fullmatch(rule, path)), None)
        rows = np.zeros((), np.float32)
        if part is not None:
            rows = getattr(chosen, part).astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
        found[path] = rows
    return found


def overlap(a: Components, b: Components) -> float:
    """Shared components over those in either (Jaccard); NaN where both are empty."""
    pairs = [(getattr(a, part), getattr(b, part)) for part in PARTS]
    either = sum(int((x | y).sum()) for x, y in pairs)
    return sum(int((x & y).sum()) for x, y in pairs) / either if either else math.nan


def _layers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return next(shape[0] for path, shape in shapes.items() if path.startswith("blocks/"))


def roc_area(scores: Float[np.ndarray, " N"], truth: Bool[np.ndarray, " N"]) -> float:
    """Area under the ROC of finding the true entries by score; ties count half.

    NaN where all or none are true.
    """
    positive, negative = scores[truth], scores[~truth]
    if not len(positive) or not len(negative):
        return math.nan
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def precision_recall(chosen: Bool[np.ndarray, " N"], truth: Bool[np.ndarray, " N"]) -> tuple:
    """Share of the chosen that is true, and of the true that is chosen; NaN for 0 of 0."""
    hits = int((chosen & truth).sum())
    return (
        hits / int(chosen.sum()) if chosen.any() else math.nan,
        hits / int(truth.sum()) if truth.any() else math.nan,
    )
