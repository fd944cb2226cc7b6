"""A linear probe of concept labels on all neurons at once, trained on word vectors in a stream.

Letters: C models, W words of a batch, Y concept labels, N neurons. The probe is a softmax
regression with elastic net and the settings of the original's second ranking (specs: relearning 9):
Adam at 1e-3, L1 = L2 = 5e-5, 10 epochs, and NeuroX's penalty (the L2 norm, not its square). NeuroX
draws 32 words at a time. Here a batch is `tracking.batch_size` sentences of similar length, so an
epoch has fewer steps; word vectors are recomputed in every epoch and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from relearn_jax.data.batching import WordBatch
from relearn_jax.models import transformer
from relearn_jax.models.sites import Sites, Tap, Taps
from relearn_jax.models.transformer import Model
from relearn_jax.neurons.statistics import Zeros, neuron_shape, word_vectors

PyTree = Any
L1 = L2 = 5e-5
OPTIMIZER = optax.adam(1e-3)


class Probe(NamedTuple):
    """Weights, bias and the optimizer's moments."""

    weights: Float[Array, "N Y"]
    bias: Float[Array, Y]
    moments: optax.OptState


def _vectors(model: Model, params: PyTree, batch: WordBatch, sites: Sites, site: str) -> Array:
    tap = Tap(lambda h, _: word_vectors(h, batch.word))
    _, taps = transformer.apply(model, params, batch.inputs, sites, Taps(**{site: tap}))
    x = jnp.moveaxis(getattr(taps, site), 0, 2)
    return x.reshape(*x.shape[:2], -1)


@partial(jax.jit, static_argnames=("model", "site"), donate_argnames="probe")
def _step(model, site, params, probe, batch, sites):
    return jax.vmap(partial(_fitted, model, site, batch))(params, probe, sites)


def _fitted(model, site, batch, params, probe, sites):
    x = _vectors(model, params, batch, sites, site)
    real = batch.kind >= 0
    # A word with several labels counts for each of them in equal parts.
    target = batch.member / jnp.maximum(batch.member.sum(-1, keepdims=True), 1)

    def loss(fit: tuple[Array, Array]) -> Array:
        weights, bias = fit
        losses = optax.softmax_cross_entropy(x @ weights + bias, target)
        data = jnp.sum(losses * real) / jnp.maximum(real.sum(), 1)
        norm = jnp.sqrt((weights**2).sum() + 1e-12)  # the root has no gradient at 0
        return data + L1 * jnp.abs(weights).sum() + L2 * norm

    fit = (probe.weights, probe.bias)
    updates, moments = OPTIMIZER.update(jax.grad(loss)(fit), probe.moments)
    return Probe(*optax.apply_updates(fit, updates), moments)


def train(
    model: Model,
    params: PyTree,
    batches: Callable[[], Iterable[WordBatch]],
    labels: int,
    site: str = "states",
    sites: Sites = Sites(),  # noqa: B008 (immutable)
    epochs: int = 10,
    zeros: Zeros = jnp.zeros,
) -> Float[Array, "C N Y"]:
    """Weights of the probes of C models; `batches` starts a new sweep over the text each epoch.

    `zeros` makes the trained arrays, with the sharding of the models.
    """
    rows, channels = neuron_shape(model, site)
    models = jax.tree.leaves(params)[0].shape[0]
    fit = (zeros((models, rows * channels, labels)), zeros((models, labels)))
    probe = Probe(*fit, jax.vmap(OPTIMIZER.init)(fit))
    for _ in range(epochs):
        for batch in batches():
            probe = _step(model, site, params, probe, batch, sites)
    return probe.weights
