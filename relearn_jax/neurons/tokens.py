"""Top tokens: the word types with a neuron's strongest responses, and measures on sets of them.

Axes: V word types in the order of their first occurrence, S rows, D channels, N = S*D neurons,
k tokens of a neuron, Y concept labels. In `ids`, -1 means no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from relearn_jax import config

# Scores held on the device at a time (64 MB in float32), whatever V and N are.
CHUNK = 2**24


def top_tokens(
    type_score: Float[Array, "V S D"], type_count: Int[Array, " V"], settings: config.Tracking
) -> tuple[Int[np.ndarray, "N k"], Float[np.ndarray, "N k"]]:
    """The `top_k` word types of every neuron and their scores (specs: relearning 6.1).

    `type_score` is the mean over a type's occurrences of |z|, or of z if it was computed with
    `settings.signed`. Only types that occur at least `min_count` times count. Their scores are
    divided by the neuron's highest, and the first k above `min_score` are returned in descending
    order; equal scores keep first-occurrence order. A neuron without a positive score (one that
    never varies) has no tokens: ids -1, scores 0.
    """
    types = len(type_count)
    flat = type_score.reshape(types, -1)
    neurons = flat.shape[1]
    counted = jnp.asarray(np.asarray(type_count) >= max(settings.min_count, 1))
    k = min(settings.top_k, types)
    ids = np.full((neurons, settings.top_k), -1, np.int32)
    scores = np.zeros((neurons, settings.top_k), np.float32)
    width = max(1, min(neurons, CHUNK // max(types, 1)))
    for start in range(0, neurons, width):
        # The last chunk overlaps the one before, so that all have the same shape: one compilation.
        begin = min(start, neurons - width)
        part = _columns(flat, begin, width)
        ids[begin : begin + width, :k], scores[begin : begin + width, :k] = _top(
            part, counted, settings.min_score, k
        )
    return ids, scores


def _columns(flat: Float[Array, "V N"], begin: int, width: int) -> Float[Array, "V W"]:
    if isinstance(flat, jax.Array):
        return jax.lax.dynamic_slice_in_dim(flat, begin, width, axis=1)
    return flat[:, begin : begin + width]


@partial(jax.jit, static_argnames="k")
def _top(
    score: Float[Array, "V W"], counted: Bool[Array, " V"], min_score: float, k: int
) -> tuple[Int[Array, "W k"], Float[Array, "W k"]]:
    usable = counted[:, None] & jnp.isfinite(score)
    score = jnp.where(usable, score, -jnp.inf).astype(jnp.float32).T
    highest = score.max(axis=1, keepdims=True)
    share = jnp.where(highest > 0, score / highest, -jnp.inf)
    best, ids = jax.lax.top_k(share, k)
    kept = best > min_score
    return jnp.where(kept, ids, -1), jnp.where(kept, best, 0.0)


def is_null(ids: Int[np.ndarray, "N k"], types: Sequence[str]) -> Bool[np.ndarray, " N"]:
    """Whether none of a neuron's tokens is alphabetic (`str.isalpha`; specs: relearning 6.1)."""
    alphabetic = np.fromiter((word.isalpha() for word in types), bool, len(types))
    return ~_lookup(alphabetic, ids).any(axis=1)


def same_tokens(
    first: Int[np.ndarray, "N k"], second: Int[np.ndarray, "N k"]
) -> Bool[np.ndarray, " N"]:
    """Whether a neuron's two token sets are equal; two empty sets are."""
    shared, union = _overlap(first, second)
    return shared == union


def jaccard(
    first: Int[np.ndarray, "N k"], second: Int[np.ndarray, "N k"]
) -> Float[np.ndarray, " N"]:
    """Jaccard index of each neuron's two token sets (shared over all); NaN if both are empty."""
    shared, union = _overlap(first, second)
    return shared / np.where(union > 0, union, np.nan)


def types_with_labels(
    kind: Int[np.ndarray, " W"], member: Bool[np.ndarray, "W Y"], types: int
) -> Bool[np.ndarray, "V Y"]:
    """Which word types occur with which label; `kind` and `member` cover all words of the text."""
    occurs = np.zeros((types, member.shape[1]), bool)
    for label in range(member.shape[1]):
        occurs[kind[member[:, label]], label] = True
    return occurs


def target_share(
    ids: Int[np.ndarray, "N k"], with_target: Bool[np.ndarray, " V"]
) -> Float[np.ndarray, " N"]:
    """Share of a neuron's tokens that occur with the target label; NaN without tokens.

    `with_target` is the target's column of `types_with_labels`; its mean is the chance level.
    """
    tokens = (ids >= 0).sum(axis=1)
    return _lookup(with_target, ids).sum(axis=1) / np.where(tokens > 0, tokens, np.nan)


def _lookup(of_type: Bool[np.ndarray, " V"], ids: Int[np.ndarray, "N k"]) -> np.ndarray:
    return np.where(ids >= 0, np.asarray(of_type, bool)[ids], False)


def _overlap(
    first: Int[np.ndarray, "N k"], second: Int[np.ndarray, "N k"]
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Sizes of intersection and union. A neuron's ids are distinct, so equal pairs count once."""
    equal = (first[:, :, None] == second[:, None, :]) & (first[:, :, None] >= 0)
    shared = equal.sum(axis=(1, 2))
    return shared, (first >= 0).sum(axis=1) + (second >= 0).sum(axis=1) - shared
