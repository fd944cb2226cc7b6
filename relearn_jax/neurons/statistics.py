"""Concept statistics of all neurons, computed in a stream: no activations are stored.

Letters: C models side by side (leading axis of params, of sites and of all results), B batch, T
tokens, W words of a sentence, Y concept labels (row Y: all words), S rows of neurons (L+1 hidden
states, or L feed-forward layers), D channels, V word types.

A word's vector is the mean over its sub-words (specs: relearning 2.3). The first sweep merges
counts, means and squared deviations batch by batch (Chan, Golub, LeVeque 1979), which keeps float32
exact enough for channels with a mean much larger than their spread. The second sweep needs the
means, and adds |z| of every word to its type (6.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from relearn_jax.data.batching import WordBatch
from relearn_jax.models import transformer
from relearn_jax.models.sites import Sites, Tap, Taps
from relearn_jax.models.transformer import Model

PyTree = Any
Zeros = Callable[[tuple[int, ...]], Array]
RESOLUTION = 1e-6
"""Moments are float32. A spread below this share of the mean is a rounding error, as for a pruned
neuron, which has the same value for every word."""
EXACT = jax.lax.Precision.HIGHEST
"""Accelerators' default for float32 products keeps 8 to 10 bits, too few for sums of thousands."""


class Moments(NamedTuple):
    """Counts, means and sums of squared deviations by label; the last row is all words.

    Shapes here and in `TypeScores` are for one model; the sweeps return a leading axis C.
    """

    count: Float[Array, Y1]
    mean: Float[Array, "Y1 S D"]
    m2: Float[Array, "Y1 S D"]


class TypeScores(NamedTuple):
    """Mean |z| (or z) of every word type for every neuron, and how often each type occurred."""

    score: Float[Array, "V S D"]
    count: Float[Array, V]


def deviation(moments: Moments) -> Float[Array, "S D"]:
    """Population standard deviation over all words, of one model."""
    return jnp.sqrt(moments.m2[-1] / moments.count[-1])


def word_vectors(h: Float[Array, "B T D"], word: Int[Array, "B T"]) -> Float[Array, "B W D"]:
    """Mean over the sub-words of each word, with W = T; 0 for words without sub-words."""
    belongs = (word[:, :, None] == jnp.arange(word.shape[1])).astype(jnp.float32)
    sums = jnp.einsum("BTW,BTD->BWD", belongs, h.astype(jnp.float32), precision=EXACT)
    return sums / jnp.maximum(belongs.sum(1), 1.0)[:, :, None]


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two sets of words."""
    count = a.count + b.count
    share = (b.count / jnp.maximum(count, 1.0))[:, None, None]
    step = b.mean - a.mean
    between = step**2 * (a.count[:, None, None] * share)
    return Moments(count, a.mean + step * share, a.m2 + b.m2 + between)


def _taps(site: str, tap: Tap) -> Taps:
    return Taps(**{site: tap})


@partial(jax.jit, static_argnames=("model", "site"), donate_argnames="carry")
def _add_moments(model, site, params, carry, batch, sites):
    of_model = partial(_with_moments, model, site, batch)
    return jax.vmap(of_model)(params, carry, sites)


def _with_moments(model, site, batch, params, carry, sites):
    member = jnp.concatenate([batch.member, jnp.ones_like(batch.member[..., :1])], axis=-1)
    member = (member & (batch.kind >= 0)[..., None]).astype(jnp.float32)
    count = member.sum((0, 1))

    def reduce(h: Array, _: None) -> tuple[Array, Array]:
        x = word_vectors(h, batch.word)
        # Deviations are taken from the batch's own mean, so that squares do not cancel badly.
        total = jnp.einsum("BW,BWD->D", member[..., -1], x, precision=EXACT)
        centre = total / jnp.maximum(count[-1], 1.0)
        x = x - centre
        n = jnp.maximum(count, 1.0)[:, None]
        mean = jnp.einsum("BWY,BWD->YD", member, x, precision=EXACT) / n
        m2 = jnp.einsum("BWY,BWD->YD", member, x**2, precision=EXACT) - n * mean**2
        return mean + centre, jnp.maximum(m2, 0.0)

    _, taps = transformer.apply(model, params, batch.inputs, sites, _taps(site, Tap(reduce)))
    mean, m2 = (jnp.swapaxes(x, 0, 1) for x in getattr(taps, site))
    return merge(carry, Moments(count, mean, m2))


@partial(jax.jit, static_argnames=("model", "site", "signed"), donate_argnames="carry")
def _add_scores(model, site, signed, params, carry, batch, sites, centre, spread):
    of_model = partial(_with_scores, model, site, signed, batch)
    return jax.vmap(of_model)(params, carry, sites, centre, spread)


def _with_scores(model, site, signed, batch, params, carry, sites, centre, spread):
    def reduce(h: Array, row: tuple[Array, Array]) -> Array:
        mean, deviation = row
        varies = deviation > RESOLUTION * jnp.abs(mean)
        z = (word_vectors(h, batch.word) - mean) / jnp.where(varies, deviation, jnp.inf)
        return z if signed else jnp.abs(z)

    tap = Tap(reduce, (centre, spread))
    _, taps = transformer.apply(model, params, batch.inputs, sites, _taps(site, tap))
    z = jnp.moveaxis(getattr(taps, site), 0, 2)
    slot = jnp.where(batch.kind >= 0, batch.kind, carry.count.shape[0])
    return TypeScores(
        carry.score.at[slot].add(z, mode="drop"), carry.count.at[slot].add(1.0, mode="drop")
    )


def neuron_shape(model: Model, site: str) -> tuple[int, int]:
    """Rows and channels of the tracked neurons: (L+1, D) or (L, F)."""
    c = model.config
    return (c.layers + 1, c.width) if site == "states" else (c.layers, c.mlp_width)


def concept_moments(
    model: Model,
    params: PyTree,
    batches: Iterable[WordBatch],
    labels: int,
    site: str = "states",
    sites: Sites = Sites(),  # noqa: B008 (immutable)
    zeros: Zeros = jnp.zeros,
) -> Moments:
    """First sweep: moments of all neurons for all Y labels and for all words together.

    `zeros`, here and below, makes the arrays to add to, with the sharding of the models.
    """
    size = (_models(params), labels + 1)
    shape = (*size, *neuron_shape(model, site))
    carry = Moments(zeros(size), zeros(shape), zeros(shape))
    for batch in batches:
        carry = _add_moments(model, site, params, carry, batch, sites)
    return carry


def type_scores(
    model: Model,
    params: PyTree,
    batches: Iterable[WordBatch],
    moments: Moments,
    types: int,
    site: str = "states",
    sites: Sites = Sites(),  # noqa: B008 (immutable)
    signed: bool = False,
    zeros: Zeros = jnp.zeros,
) -> TypeScores:
    """Second sweep: mean |z| (signed: z) per word type and neuron; 0 for neurons that never vary.

    The result takes C * V * N * 4 bytes; nothing else here grows with the text.
    """
    size = (_models(params), types)
    carry = TypeScores(zeros((*size, *neuron_shape(model, site))), zeros(size))
    centre, spread = moments.mean[:, -1], jax.vmap(deviation)(moments)
    for batch in batches:
        carry = _add_scores(model, site, signed, params, carry, batch, sites, centre, spread)
    return _average(carry)


@partial(jax.jit, donate_argnums=0)
def _average(scores: TypeScores) -> TypeScores:
    n = jnp.maximum(scores.count, 1.0)
    return TypeScores(scores.score / n[..., None, None], scores.count)


def _models(params: PyTree) -> int:
    return jax.tree.leaves(params)[0].shape[0]
