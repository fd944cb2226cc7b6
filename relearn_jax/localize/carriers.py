"""The feed-forward neurons that carry facts, and which of them took facts over.

Letters: L layers, N neurons of a layer, F facts, K carriers, B prompts, T tokens.

The effect of a neuron on a fact is its first-order share of the margin of the right answer over the
wrong one: the sum over tokens of its activation times the margin's gradient (gradient x activation,
Shrikumar et al. 2017; Molchanov et al. 2017 for neurons). Carriers are the neurons with the highest
mean effect.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment

from relearn_jax.data.facts.prompts import Prompts, take
from relearn_jax.localize import questions
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites, Tap, Taps, everything
from relearn_jax.models.transformer import Model

PyTree = Any
BATCH = 16
SHARE, LEAST, MOST = 0.02, 16, 512
SHUFFLES = 20


class Carriers(NamedTuple):
    """The K neurons with the highest mean effect."""

    index: Int[np.ndarray, " K"]
    """Layer x N + neuron."""
    effect: Float[np.ndarray, "K F"]
    by_layer: Float[np.ndarray, "L F"]
    """The sum of the effects of all neurons of a layer."""


class Lineage(NamedTuple):
    """How carriers after a change descend from those before it."""

    same: float
    """Share of the carriers that carried before."""
    matched: float
    """Mean correlation of the effects of matched carriers over facts."""
    shuffled: float
    """The same where the facts after the change are shuffled: what matching finds in noise."""
    ancestor: Int[np.ndarray, " K"]
    """For each carrier after the change, the position of its match among those before."""
    correlation: Float[np.ndarray, " K"]
    """Of each match."""


def effects(model: Model, params: PyTree, prompts: Prompts) -> Float[np.ndarray, "L N F"]:
    """The effect of every feed-forward neuron on the margin of each prompt's right answer over its
    first alternative."""
    words = np.stack([prompts.target, prompts.others[:, 0]], axis=1)
    found, total = [], len(prompts.ids)
    size = min(BATCH, total)
    for begin in range(0, total, size):
        # The last batch is filled up, so that one program serves all.
        rows = np.arange(begin, begin + size) % total
        part = take(prompts, rows)
        inputs = Inputs(part.ids, part.mask)
        found.append(np.asarray(_effects(model, params, inputs, part.last, words[rows])))
    return np.concatenate(found, axis=-1)[..., :total]


@partial(jax.jit, static_argnums=0)
def _effects(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    last: Int[Array, " B"],
    words: Int[Array, "B 2"],
) -> Float[Array, "L N B"]:
    c = model.config
    zeros = jnp.zeros((c.layers, *inputs.ids.shape, c.mlp_width))

    def margin(delta: Float[Array, "L B T N"]) -> tuple[Array, Array]:
        sites, taps = Sites(mlp=Site(delta=delta)), Taps(mlp=Tap(everything))
        h, readings = transformer.hidden(model, params, inputs, sites, taps)
        logits = questions.answers(model, params, questions.at_last(h, last), words)
        return (logits[:, 0] - logits[:, 1]).sum(), readings.mlp

    gradient, activation = jax.grad(margin, has_aux=True)(zeros)
    return jnp.einsum("LBTN,LBTN->LNB", gradient, activation.astype(jnp.float32))


def carriers(effect: Float[np.ndarray, "L N F"]) -> Carriers:
    """The neurons with the highest mean effect: 2 % of all, from 16 to 512."""
    layers, neurons, facts = effect.shape
    count = int(np.clip(SHARE * layers * neurons, LEAST, MOST))
    flat = effect.reshape(layers * neurons, facts)
    index = np.argsort(-flat.mean(1), kind="stable")[:count]
    return Carriers(index.astype(np.int32), flat[index], effect.sum(1))


def lineage(before: Carriers, after: Carriers, facts: Int[np.ndarray, " F"], seed: int) -> Lineage:
    """Match carriers one to one so that the correlation of their effects is highest.

    The matching is an optimal assignment (Kuhn 1955).

    Args:
      before: with effects on all facts.
      after: with effects on the facts numbered `facts` only.
      facts: numbers of facts.
      seed: of the shuffles.
    """
    old, new = _standard(before.effect[:, facts]), _standard(after.effect)
    correlation = new @ old.T
    place, ancestor = linear_sum_assignment(-correlation)
    rng, draws = np.random.default_rng(seed), []
    for _ in range(SHUFFLES):
        shuffled = new[:, rng.permutation(new.shape[1])] @ old.T
        draws.append(shuffled[linear_sum_assignment(-shuffled)].mean())
    found = correlation[place, ancestor]
    return Lineage(
        float(np.isin(after.index, before.index).mean()),
        float(found.mean()),
        float(np.mean(draws)),
        ancestor,
        found,
    )


def _standard(effect: Float[np.ndarray, "K F"]) -> Float[np.ndarray, "K F"]:
    """Rows with mean 0 and norm 1; rows that do not vary are 0."""
    centred = effect - effect.mean(1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
