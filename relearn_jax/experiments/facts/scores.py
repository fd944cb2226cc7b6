"""From effects to one score for each attention block and feed-forward layer, and to chosen ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from relearn_jax.experiments.facts.localizers import Effects

PARTS = {"attention": "attention", "mlp": "mlp_out"}
"""Part of a layer -> the place where it adds to the stream."""
SIGNS = {
    "patching": -1, "restoring": 1, "tracing": 1, "attribution": -1, "attribution_path": -1,
    "paths": 1,
}  # fmt: skip
NULL_OF = {"restoring": "patching"}
"""Between two runs without the fact, patching has no direction: one null serves both."""
RESAMPLES = 1000
ByPair = Mapping[str, Float[np.ndarray, "L B"]]


def by_pair(effects: Effects) -> dict[str, ByPair]:
    """For each localizer the effect of patching each part of each layer, summed over positions.

    Of positive sign where patching moves the answer the way that the whole corruption does
    (patching, attribution), or brings it back (restoring, tracing, paths).
    """
    return {
        method: {part: SIGNS[method] * effect for part, effect in parts.items()}
        for method in SIGNS
        if (parts := _parts(effects, method))
    }


def nulls(effects: Effects) -> dict[str, ByPair]:
    """The same between two runs without the fact; positive is away from what the first answers."""
    found = {method: _parts(effects, null_name(method)) for method in SIGNS}
    return {method: parts for method, parts in found.items() if parts}


def null_name(name: str) -> str:
    """Under which name the null of an effect stands."""
    method, slash, place = name.partition("/")
    return f"null/{NULL_OF.get(method, method)}{slash}{place}"


def _parts(effects: Effects, name: str) -> dict[str, np.ndarray]:
    if f"{name}/mlp_out" in effects:
        return {part: effects[f"{name}/{place}"] for part, place in PARTS.items()}
    if f"{name}/mlp_out/position" in effects:
        return {part: effects[f"{name}/{place}/position"].sum(1) for part, place in PARTS.items()}
    if f"{name}/mlp" in effects:
        return {"mlp": effects[f"{name}/mlp"]}
    return {}


def whole_change(effects: Effects, method: str) -> Float[np.ndarray, " B"]:
    """What a score is a share of: the change by the whole corruption."""
    return effects["tracing/lost"] if method == "tracing" else effects["clean"] - effects["corrupt"]


def share(
    effect: Float[np.ndarray, "... B"], change: Float[np.ndarray, " B"], seed: int
) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """Mean effect over mean change, and the 95 % interval of a bootstrap over pairs."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(change), (RESAMPLES, len(change)))
    weights = np.stack([np.bincount(r, minlength=len(change)) for r in rows]) / len(change)
    again = (effect @ weights.T) / (weights @ change)
    low, high = np.quantile(again, [0.025, 0.975], axis=-1)
    return effect.mean(-1) / change.mean(), low, high
