"""Probes of an attribute: a logistic regression on each state (specs: mechanistic unlearning 3.1).

Letters: S states (rows), N examples, D width, K classes.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

TOLERANCE, MOST_STEPS = 1e-5, 500


class Probe(NamedTuple):
    """Multinomial logistic regressions, one for each row of states."""

    weights: Float[Array, "S D K"]
    bias: Float[Array, "S K"]


@partial(jax.jit, static_argnames="classes")
def fit(
    x: Float[Array, "S N D"], y: Int[Array, " N"], classes: int, strength: float = 1.0
) -> Probe:
    """Fit all probes side by side by L-BFGS, until no entry of the mean gradient exceeds 1e-5.

    The objective is scikit-learn's: the sum of cross-entropies plus |weights|^2 / (2 C), where C is
    `strength`; biases are not penalised. With fewer examples than channels, the weights lie in the
    span of the examples, and the problem is solved in that span.
    """
    x = x.astype(jnp.float32)
    _, examples, width = x.shape
    reduce = examples < width
    if reduce:
        u, s, vt = jnp.linalg.svd(x, full_matrices=False)
        z = u * s[:, None, :]
    else:
        z = x
    target = jax.nn.one_hot(y, classes)

    def fit_row(z: Float[Array, "N R"]) -> tuple[Array, Array]:
        def loss(fit: tuple[Array, Array]) -> Array:
            weights, bias = fit
            losses = optax.softmax_cross_entropy(z @ weights + bias, target)
            return (losses.sum() + (weights**2).sum() / (2 * strength)) / examples

        optimizer = optax.lbfgs()
        value_and_grad = optax.value_and_grad_from_state(loss)

        def step(carry: tuple) -> tuple:
            fit, state, _, count = carry
            value, grad = value_and_grad(fit, state=state)
            update, state = optimizer.update(
                grad, state, fit, value=value, grad=grad, value_fn=loss
            )
            largest = jnp.max(jnp.abs(jnp.concatenate([g.ravel() for g in grad])))
            return optax.apply_updates(fit, update), state, largest, count + 1

        def unfinished(carry: tuple) -> Array:
            return (carry[2] > TOLERANCE) & (carry[3] < MOST_STEPS)

        start = (jnp.zeros((z.shape[1], classes)), jnp.zeros(classes))
        carry = jax.lax.while_loop(
            unfinished, step, (start, optimizer.init(start), jnp.inf, jnp.int32(0))
        )
        return carry[0]

    weights, bias = jax.vmap(fit_row)(z)
    if reduce:
        weights = jnp.einsum("SRD,SRK->SDK", vt, weights)
    return Probe(weights, bias)


def accuracy(probe: Probe, x: Float[Array, "S N D"], y: Int[Array, " N"]) -> Float[Array, " S"]:
    """Share of the examples that each probe classifies correctly."""
    logits = jnp.einsum("SND,SDK->SNK", x, probe.weights) + probe.bias[:, None]
    return (jnp.argmax(logits, -1) == y).mean(-1)
