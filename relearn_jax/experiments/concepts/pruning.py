"""Which neurons a concept set prunes, and what pruning does to the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from relearn_jax.config import Relearning
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.models import weights
from relearn_jax.models.sites import Site, Sites
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import masks
from relearn_jax.neurons.masks import NeuronMask
from relearn_jax.parallel import sharding, stacking

PyTree = Any


def choose(
    config: Relearning, one: ConceptSet, scores: Float[np.ndarray, "Y S D"], target: int
) -> NeuronMask:
    """The neurons that a set prunes, from the base model's scores; `target` is its row of them."""
    settings, site = sets.prune_settings(config, one.group), config.concepts.site
    concept = masks.select(scores[target], settings, site).mask
    entropy = np.random.SeedSequence((one.seed, sets.number(one)))
    stream = int(entropy.generate_state(1)[0])
    match one.arm:
        case "concept":
            return concept
        case "random":
            return masks.random(concept, stream)
        case "layer_matched":
            return masks.layer_matched(concept, stream)
        case "bottom":
            return masks.bottom(concept, scores[target], settings.scope)


def kept(mesh: Mesh, keep: Bool[np.ndarray, "C S D"]) -> Float[jax.Array, "C S D"]:
    """1 for the neurons that stay, on the devices of their sets."""
    return stacking.per_set(mesh, [np.asarray(k, np.float32) for k in keep])


def sites(target: str, keep: jax.Array | None) -> Sites:
    """What the forward passes of C sets are run with."""
    if keep is None or target != "state_mask":
        return Sites()
    return Sites(states=Site(mask=keep))


def leaves(model: Model, target: str) -> tuple[tuple[str, int], ...]:
    """Where pruned neurons live in the parameters, and on which axis."""
    return () if target == "state_mask" else tuple(model.family.neurons[target].items())


def pruned(model: Model, mesh: Mesh, config: Relearning, params: PyTree, keep: jax.Array) -> PyTree:
    """Parameters [C, ...] without those of their neurons; they are donated."""
    where = leaves(model, config.prune.target)
    if not where:
        return params
    return _without(mesh, config.concepts.site, where, params, keep)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _without(
    mesh: Mesh, site: str, leaves: tuple[tuple[str, int], ...], params: PyTree, keep: jax.Array
) -> PyTree:
    def one(params: PyTree, keep: jax.Array) -> PyTree:
        return masks.apply(params, masks.expand(NeuronMask(keep, site), params, dict(leaves)))

    return sharding.constrain(jax.vmap(one)(params, keep), mesh, sets_axis=True)


def remove(
    model: Model, params: PyTree, gone: Bool[np.ndarray, "S D"], target: str, site: str
) -> PyTree:
    """Parameters of one model without those of its pruned neurons."""
    mask = NeuronMask(~gone, site)
    return masks.apply(params, masks.expand(mask, params, dict(leaves(model, target))))


def held(
    model: Model, mesh: Mesh, config: Relearning, some: Sequence[ConceptSet], keep: jax.Array | None
) -> dict[str, jax.Array]:
    """Multipliers by path that hold the pruned entries of frozen sets at 0; none where no set is.

    A set that regrows freely shares the program of the frozen ones, with multipliers of 1.
    """
    frozen = np.array([one.group.regrowth == "frozen" for one in some], np.float32)
    where = leaves(model, config.prune.target)
    if keep is None or not frozen.any() or not where:
        return {}
    shapes = {
        path: jax.ShapeDtypeStruct(weights.shapes(model)[path], np.float32) for path, _ in where
    }

    def one(keep: jax.Array, frozen: jax.Array) -> dict[str, jax.Array]:
        mask = NeuronMask(keep, config.concepts.site)
        times = weights.flatten(masks.expand(mask, weights.unflatten(shapes), dict(where)))
        return {path: 1.0 - frozen * (1.0 - m) for path, m in times.items()}

    return jax.jit(jax.vmap(one))(keep, stacking.per_set(mesh, list(frozen)))


def parameter_count(model: Model, config: Relearning, gone: Bool[np.ndarray, "S D"]) -> int:
    """Exact number of parameters that pruning these neurons sets to 0."""
    where = leaves(model, config.prune.target)
    if not where:
        return 0
    shapes = weights.shapes(model)
    params = weights.unflatten({k: np.broadcast_to(np.float32(1), v) for k, v in shapes.items()})
    return masks.parameter_count(NeuronMask(~gone, config.concepts.site), params, dict(where))
