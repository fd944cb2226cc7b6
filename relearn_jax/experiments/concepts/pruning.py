"""The neurons that a concept set prunes, and the masks that prune them in a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from relearn_jax.config import Prune, Ranking, Relearning, Zeroed
from relearn_jax.config import Site as NeuronSite
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.models import masks, weights
from relearn_jax.models.masks import Mask
from relearn_jax.models.sites import Site, Sites
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import choice
from relearn_jax.parallel import sharding, stacking

PyTree = Any
Scores = dict[tuple[NeuronSite, Ranking], Float[np.ndarray, "Y S D"]]
"""Scores of a base model's neurons, by their place and the ranking."""


def choose(
    settings: Prune,
    site: str,
    concept_set: ConceptSet,
    scores: Float[np.ndarray, "Y S D"],
    target: int,
) -> Bool[np.ndarray, "S D"]:
    """The neurons that a set prunes, by the base model's scores; `target` is its concept's row."""
    concept = choice.select(scores[target], settings, site).pruned
    entropy = np.random.SeedSequence((concept_set.seed, sets.number(concept_set)))
    stream = int(entropy.generate_state(1)[0])
    match concept_set.arm:
        case "concept":
            return concept
        case "random":
            return choice.random(concept, site, stream)
        case "layer_matched":
            return choice.layer_matched(concept, site, stream)
        case "bottom":
            return choice.bottom(concept, site, scores[target], settings.scope)
        case "oracle":
            return np.zeros_like(concept)


def sites(mesh: Mesh, target: str, pruned: Bool[np.ndarray, "C S D"] | None) -> Sites:
    """Interventions on the forward passes of C sets: a state mask, or none."""
    if pruned is None or target != "state_mask":
        return Sites()
    return Sites(states=Site(mask=stacking.per_set(mesh, [np.float32(~rows) for rows in pruned])))


def site_of(target: Zeroed) -> NeuronSite:
    """Where the neurons are that a target prunes."""
    return "mlp" if target == "mlp_unit" else "states"


def rankings(settings: Relearning) -> tuple[tuple[NeuronSite, Ranking], ...]:
    """The places and rankings that a config uses."""
    pruned_by = settings.sets.rankings or (settings.prune.ranking,)
    if not settings.dose.fractions:
        return tuple((settings.concepts.site, name) for name in pruned_by)
    names = dict.fromkeys((*pruned_by, *settings.dose.rankings))
    zeroed = (settings.prune.target, *settings.dose.targets)
    places = dict.fromkeys(site_of(target) for target in zeroed)
    return tuple((site, name) for site in places for name in names)


def without(
    model: Model, target: Zeroed, params: PyTree, pruned: Bool[Array, "S D"]
) -> tuple[PyTree, Sites]:
    """Parameters and interventions of a forward pass without the pruned neurons.

    A feed-forward unit is masked, not cut out of its matrices: that is the same to the bit, and
    under `vmap` over many masks the matrices stay shared.
    """
    match target:
        case "state_mask":
            return params, Sites(states=Site(mask=~pruned))
        case "mlp_unit":
            return params, Sites(mlp=Site(mask=~pruned))
    return masks.remove(params, mask_of(model, target, "states", pruned)), Sites()


def mask_of(model: Model, target: str, site: str, pruned: Bool[Array, "S D"]) -> Mask:
    """The parameters of pruned neurons; empty for target `state_mask`, which has none."""
    leaves = {} if target == "state_mask" else model.family.neurons[target]
    return masks.of_neurons(pruned, site, leaves, weights.shapes(model))


@partial(jax.jit, static_argnames=("model", "mesh", "target", "site"), donate_argnames="params")
def remove(
    model: Model, mesh: Mesh, target: str, site: str, params: PyTree, pruned: Bool[Array, "C S D"]
) -> PyTree:
    """Set the parameters of pruned neurons to 0; `params` [C, ...] is donated."""

    def of_set(params: PyTree, pruned: Array) -> PyTree:
        return masks.remove(params, mask_of(model, target, site, pruned))

    return sharding.constrain(jax.vmap(of_set)(params, pruned), mesh, sets_axis=True)


def held(
    model: Model,
    mesh: Mesh,
    target: str,
    site: str,
    chunk: Sequence[ConceptSet],
    pruned: Bool[np.ndarray, "C S D"] | None,
) -> Mask | None:
    """The parameters that stay at 0 in the frozen sets of a chunk; None where no set is frozen.

    A set that regrows freely has an empty mask, and so shares the program of frozen sets.
    """
    frozen = np.array([concept_set.group.regrowth == "frozen" for concept_set in chunk])
    if pruned is None or not frozen.any() or target == "state_mask":
        return None
    of_set = partial(mask_of, model, target, site)
    frozen_neurons = stacking.per_set(mesh, list(pruned & frozen[:, None, None]))
    return jax.jit(jax.vmap(of_set))(frozen_neurons)


def parameter_count(model: Model, target: str, site: str, pruned: Bool[np.ndarray, "S D"]) -> int:
    """Exact number of parameters that pruning these neurons sets to 0."""
    return masks.count(mask_of(model, target, site, pruned), weights.shapes(model))
