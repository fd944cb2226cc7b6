"""From effects to one score for each attention block and feed-forward layer, and to chosen ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from relearn_jax.experiments.facts.localizers import Effects

PARTS = {"attention": "attention", "mlp": "mlp_out"}
"""Part of a layer -> the place where it adds to the stream."""
RESAMPLES = 1000
ByPair = Mapping[str, Float[np.ndarray, "L B"]]


def by_pair(effects: Effects) -> dict[str, ByPair]:
    """For each localizer the effect of patching each part of each layer, summed over positions.

    Of positive sign where patching moves the answer the way that the whole corruption does
    (patching, attribution), or brings it back (restoring, tracing, paths).
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for method, sign in (("patching", -1), ("restoring", 1), ("null", -1), ("tracing", 1)):
        if f"{method}/mlp_out" in effects:
            found[method] = {p: sign * effects[f"{method}/{at}"] for p, at in PARTS.items()}
    for method in ("attribution", "attribution_path"):
        if f"{method}/mlp_out/position" in effects:
            found[method] = {
                p: -effects[f"{method}/{at}/position"].sum(1) for p, at in PARTS.items()
            }
    if "paths/mlp" in effects:
        found["paths"] = {"mlp": effects["paths/mlp"]}
    return found


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
