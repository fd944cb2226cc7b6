"""Which neurons are pruned, how they and their controls are chosen, and what that means for params.

Axes: S rows (states 0..L for site `states`, the L blocks for site `mlp`), D channels, N = S*D,
C masks side by side. All that touches `keep` after the choice works under `vmap` over C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from relearn_jax import config
from relearn_jax.errors import UserError
from relearn_jax.neurons import ranking


@partial(jax.tree_util.register_dataclass, data_fields=["keep"], meta_fields=["site"])
@dataclass(frozen=True, eq=False)
class NeuronMask:
    """True for the neurons that stay. A pytree: `keep` is its array, `site` is static."""

    keep: Bool[Array, "S D"]
    site: config.Site


class Selection(NamedTuple):
    """A mask, how many neurons were asked for, and how many distinct ones it prunes."""

    mask: NeuronMask
    requested: int
    pruned: int


def pruned_count(mask: NeuronMask) -> int:
    """Number of distinct pruned neurons (of all masks together, if there is a C axis)."""
    keep = np.asarray(mask.keep)
    return int(keep.size - np.count_nonzero(keep))


def prunable(shape: tuple[int, int], site: config.Site) -> Bool[np.ndarray, "S D"]:
    """Neurons that may be pruned: all but state 0, which no block computes."""
    allowed = np.ones(shape, bool)
    if site == "states":
        allowed[0] = False
    return allowed


def select(
    scores: Float[np.ndarray, "S D"], settings: config.Prune, site: config.Site = "states"
) -> Selection:
    """Prune the neurons with the highest scores (protocol 4.2).

    The number is `count`, or the `fraction` of all S*D neurons (state 0 counted, as in the paper)
    rounded down, but never more than there are to prune. Scope `per_layer` takes the same number
    from each row, rounded down. State 0 is passed over, or, with `embedding_state: faithful`, takes
    part under its own scores and prunes the same channels of the LAST row instead (bug B of
    protocol 4.3); channels chosen twice make `pruned` less than `requested`.

    Raises UserError for a fraction outside (0, 1], a count outside 1..prunable, a mask that would
    prune nothing, and scores that are all NaN.
    """
    scores = np.asarray(scores)
    if np.isnan(scores).all():
        raise UserError(
            "prune: no neuron has a score for the target concept; the concept data must hold words "
            "of it and other words besides"
        )
    wraps = site == "states" and settings.embedding_state == "faithful"
    allowed = np.ones(scores.shape, bool) if wraps else prunable(scores.shape, site)
    requested = _requested(settings, scores.size, int(allowed.sum()))
    if settings.scope == "per_layer":
        rows = int(allowed.any(axis=1).sum())
        requested = requested // rows * rows
        if not requested:
            raise UserError(
                f"prune: fewer neurons than the {rows} layers that should each give the same "
                "number, so nothing is pruned; raise the fraction, or set scope to pooled"
            )
        chosen = _best_by_row(scores, allowed * (requested // rows), allowed)
    else:
        chosen = _best(scores, requested, allowed)
    if wraps:
        chosen[-1] |= chosen[0]
        chosen[0] = False
    mask = NeuronMask(~chosen, site)
    return Selection(mask, requested, pruned_count(mask))


def _requested(settings: config.Prune, neurons: int, allowed: int) -> int:
    if settings.count is not None:
        if not 1 <= settings.count <= allowed:
            raise UserError(
                f"prune.count is {settings.count}, but between 1 and {allowed} neurons can be "
                "pruned here; change the count or use prune.fraction"
            )
        return settings.count
    if not 0 < settings.fraction <= 1:
        raise UserError(
            f"prune.fraction is {settings.fraction}, but it must lie in (0, 1]; 0.5 prunes half"
        )
    # The allowance keeps 0.29 * 100 at 29.
    requested = min(math.floor(settings.fraction * neurons + 1e-9), allowed)
    if not requested:
        raise UserError(
            f"prune.fraction {settings.fraction} of {neurons} neurons is less than one, so the "
            "mask selects nothing; raise the fraction or set prune.count"
        )
    return requested


def random(concept: NeuronMask, seed: int) -> NeuronMask:
    """Control: as many neurons as `concept` prunes, uniformly from all that may be pruned."""
    allowed = prunable(np.shape(concept.keep), concept.site)
    draw = np.random.default_rng((seed, 0)).random(allowed.shape)
    return NeuronMask(~_best(draw, pruned_count(concept), allowed), concept.site)


def layer_matched(concept: NeuronMask, seed: int) -> NeuronMask:
    """Control: random neurons, from each row as many as `concept` prunes there."""
    draw = np.random.default_rng((seed, 1)).random(np.shape(concept.keep))
    return NeuronMask(~_as_many_by_row(draw, concept), concept.site)


def bottom(
    concept: NeuronMask, scores: Float[np.ndarray, "S D"], scope: str = "pooled"
) -> NeuronMask:
    """Control: as many neurons as `concept` prunes, those with the lowest scores.

    With scope `per_layer`, from each row as many as `concept` prunes there. Where more than half of
    the neurons that may be pruned are, this control and `concept` share some.
    """
    # Reversing the order, not the sign, so that NaN and ties stay at their end of the ranking.
    lowest = ranking.ranks(scores)
    if scope == "per_layer":
        return NeuronMask(~_as_many_by_row(lowest, concept), concept.site)
    allowed = prunable(lowest.shape, concept.site)
    return NeuronMask(~_best(lowest, pruned_count(concept), allowed), concept.site)


def _as_many_by_row(
    scores: Float[np.ndarray, "S D"], concept: NeuronMask
) -> Bool[np.ndarray, "S D"]:
    keep = np.asarray(concept.keep)
    number = (~keep).sum(axis=1, keepdims=True)
    return _best_by_row(scores, number, prunable(keep.shape, concept.site))


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


def stack(masks: Sequence[NeuronMask]) -> NeuronMask:
    """Masks of one site side by side: `keep` [C, S, D], to be used under `vmap` over axis 0."""
    return jax.tree.map(lambda *keep: jnp.stack(keep), *masks)


def expand(
    mask: NeuronMask, params: PyTree[Array], leaves: Mapping[str, int]
) -> PyTree[Float[Array, ...]]:
    """Multipliers for params: 0 in the entries of pruned neurons, 1 elsewhere, float32.

    `leaves` names the leaves that a neuron lives in, by path ("blocks/attention_norm/scale"), each
    with the axis of the neuron; axis 0 is the layer. For site `states` row l of the mask belongs to
    layer l - 1 and row 0 must be kept; for site `mlp` row l belongs to layer l. The result has the
    structure of `params` and shapes that broadcast against it: 1 on all other axes, and a scalar
    for leaves without neurons.

    Raises ValueError if a named leaf is missing or has another shape, or if row 0 is pruned.
    """
    keep = mask.keep
    if mask.site == "states":
        if not isinstance(keep, jax.core.Tracer) and not np.asarray(keep)[0].all():
            raise ValueError("state 0 is computed by no block, so no parameter can prune it")
        keep = keep[1:]
    keep = jnp.asarray(keep, jnp.float32)
    _check_leaves(keep.shape, params, leaves)

    def multiplier(path: Any, leaf: Array) -> Float[Array, ...]:
        axis = leaves.get(_name(path))
        if axis is None:
            return jnp.ones((), jnp.float32)
        shape = [1] * leaf.ndim
        shape[0], shape[axis] = keep.shape
        return keep.reshape(shape)

    return jax.tree_util.tree_map_with_path(multiplier, params)


def apply(params: PyTree[Array], multipliers: PyTree[Array]) -> PyTree[Array]:
    """Params with the pruned entries at 0; every leaf keeps its dtype and shape."""
    return jax.tree.map(lambda leaf, times: leaf * times.astype(leaf.dtype), params, multipliers)


def parameter_count(mask: NeuronMask, params: PyTree[Array], leaves: Mapping[str, int]) -> int:
    """Exact number of parameters that `apply(params, expand(mask, params, leaves))` sets to 0."""
    multipliers = jax.tree.leaves(expand(mask, params, leaves))
    return sum(
        int(np.count_nonzero(np.asarray(times) == 0)) * (leaf.size // times.size)
        for leaf, times in zip(jax.tree.leaves(params), multipliers, strict=True)
    )


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check_leaves(keep: tuple[int, int], params: PyTree[Array], leaves: Mapping[str, int]) -> None:
    shapes = {_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    wrong = [
        f"{name} is missing"
        if name not in shapes
        else f"{name} has shape {shapes[name]}, expected {keep[0]} on axis 0, {keep[1]} on {axis}"
        for name, axis in leaves.items()
        if name not in shapes or (shapes[name][0], shapes[name][axis]) != tuple(keep)
    ]
    if wrong:
        raise ValueError("the mask does not fit the params: " + "; ".join(wrong))
