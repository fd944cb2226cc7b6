"""C models of a relearning run side by side, and the run that they share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool

from relearn_jax.experiments.concepts import pruning, sets
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.setup import Setup
from relearn_jax.experiments.rounds import Trainer
from relearn_jax.models.sites import Sites
from relearn_jax.parallel import sharding
from relearn_jax.training import losses
from relearn_jax.training.losses import Loss

PyTree = Any
Keys = dict[str, str]
"""The key of each model that sets start from, by its stage (`sets.start_name`)."""


class Run(NamedTuple):
    """A run in progress."""

    setup: Setup
    trainer: Trainer
    losses: dict[Mesh, Loss]
    """A loss for each mesh, so that all rounds on a mesh share a compiled step."""

    def loss(self, mesh: Mesh) -> Loss:
        """The task loss of the model, spread over a mesh."""
        if mesh not in self.losses:
            model = sharding.spread(self.setup.pretrained.model, mesh)
            self.losses[mesh] = partial(losses.token_classification, model)
        return self.losses[mesh]


class Models(NamedTuple):
    """C models side by side at one stage."""

    sets: tuple[ConceptSet, ...]
    stage: str
    keys: tuple[str, ...]
    mesh: Mesh
    params: Callable[[], PyTree]
    """Gives their parameters, [C, ...]. Earlier results may have been donated since."""
    pruned: Bool[np.ndarray, "C S D"] | None = None
    """The pruned neurons."""

    @property
    def names(self) -> list[str]:
        """Names of their stages, which are folders."""
        return [sets.stage_name(concept_set, self.stage) for concept_set in self.sets]


def sites(models: Models, target: str) -> Sites:
    """Interventions on the forward passes of C sets, by `prune.target`."""
    return pruning.sites(models.mesh, target, models.pruned)
