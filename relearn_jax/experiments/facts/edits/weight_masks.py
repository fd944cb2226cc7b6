"""Weight masks: the single weights of a choice without which the facts are gone.

Guo et al. 2025, weight masking (specs: mechanistic unlearning 5.6). A mask from 0 to 1 is trained
for every weight of a choice, with a loss that forgets and retains, and a price for every mask that
falls. Then the N weights with the smallest mask are set to 0, and everything is asked. As many
random weights of the same choice are the control. Unlike in the paper, masks are trained and not
the weights themselves, by Adam, so that a weight's size does not decide how fast its mask falls.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from relearn_jax import config, hosts, loading, runs
from relearn_jax.evaluation.facts import Answers
from relearn_jax.experiments import rounds
from relearn_jax.experiments.facts.edits import asked, program, sweep
from relearn_jax.experiments.facts.edits.loss import (
    FORGET_TERM,
    PLAIN_TERM,
    RETAIN_TERM,
    EditLoss,
    terms_of,
)
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.rounds import Plan, Trainer
from relearn_jax.localize import selection
from relearn_jax.localize.selection import Units
from relearn_jax.models import masks, overlay, paths, weights
from relearn_jax.models.masks import Mask
from relearn_jax.models.overlay import Layers
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking
from relearn_jax.training.losses import Term, Terms, Texts
from relearn_jax.training.step import to_unit_interval

PyTree = Any
SPARSITY_TERM = "sparsity"
TRAINED, RANDOM = "trained", "random"
"""How the weights that are set to 0 were chosen."""


class MaskLoss(NamedTuple):
    """The loss of a mask: that of an edit, and how far the mask has fallen from 1, a mean."""

    model: Model
    edit: config.Edit
    layers: Layers

    def __call__(self, mask: PyTree, base: PyTree, of_step: Texts) -> Terms:
        """The terms of `base` with the rows of its layers multiplied by `mask`."""
        kept, rows = paths.flatten(mask), overlay.rows(base, self.layers)
        masked = paths.unflatten({path: kept[path] * leaf for path, leaf in rows.items()})
        terms = EditLoss(*self)(masked, base, of_step)
        # Counted by sentences, so that it is the same in a batch that is computed in parts.
        sentences = jnp.float32(len(next(iter(of_step.values())).batch.labels))
        fallen = sum((1 - leaf).sum() for leaf in kept.values())
        mean = fallen / sum(leaf.size for leaf in kept.values())
        return terms | {SPARSITY_TERM: Term(sentences * mean, sentences)}

    def __hash__(self) -> int:
        return hash(("mask", EditLoss(*self)))


class Zeroed(NamedTuple):
    """What a model answers after some of its weights are set to 0."""

    chosen_by: str
    count: int
    """Number of weights that are 0."""
    by_layer: dict[str, Int[np.ndarray, " L"]]
    """Their number by part and layer."""
    answers: Answers
    text: float | None
    """Loss on running text above its entropy, in nats a token."""


def train(
    setup: EditSetup, trainer: Trainer, seed: int, arm: str, units: Units, key: str, base: PyTree
) -> tuple[Layers, dict[str, Float[np.ndarray, "K ..."]]]:
    """Train the mask of a choice; returns it with its layers, by path.

    Args:
      setup, trainer: of the run.
      seed: of the model.
      arm: name of the choice.
      units: the choice.
      key: of the stage.
      base: the model.
    """
    settings, space = setup.config.weight_masks, selection.space(setup.model)
    edit = loss_settings(setup.config)
    marked = selection.mask(units, space)
    layers = program.layers(marked, space, edit)
    mesh = meshes.make(setup.config.parallel, 1)
    shapes = {p: (len(chosen), *weights.shapes(setup.model)[p][1:]) for p, chosen in layers}
    # The loss has a mean over the trained layers; a weight has the same price in every choice.
    trained, every = (sum(map(math.prod, s.values())) for s in (shapes, space.shapes))
    sparsity = settings.sparsity * trained / every
    fixed = {
        FORGET_TERM: settings.forget_weight, RETAIN_TERM: edit.retain_weight,
        PLAIN_TERM: edit.plain_weight,
    }  # fmt: skip
    plan = Plan(
        names=[f"seed{seed}-weights-{arm}"],
        keys=[key],
        shapes=shapes,
        mesh=mesh,
        loss=MaskLoss(sharding.spread(setup.model, mesh), edit, layers),
        settings=sweep.training(edit),
        steps=settings.steps,
        batches=partial(
            sweep.batches, setup.localization.facts[seed], setup.running[seed], edit, seed, mesh, 0
        ),
        seeds=[seed],
        streams=[0],
        number=3,
        learning_rates=[settings.learning_rate],
        cosine=True,
        weights={t: [fixed[t]] for t in terms_of(edit)} | {SPARSITY_TERM: [sparsity]},
        reference=base,
        shared_reference=True,
        held=program.held(marked, layers, mesh, 1),
        project=to_unit_interval,
    )
    ones = {path: np.ones(shape, np.float32) for path, shape in shapes.items()}
    found = rounds.train(trainer, plan, lambda: stacking.stack(mesh, [paths.unflatten(ones)]))
    rounds.forget_checkpoints(trainer, plan)
    leaves = paths.flatten(stacking.one_model(mesh, found.params, 0))
    return program.own_rows(marked, layers, {p: hosts.fetch(leaf) for p, leaf in leaves.items()})


def loss_settings(settings: config.Editing) -> config.Edit:
    """Those of the edit, with the masks' own forget loss and number of steps."""
    own = settings.weight_masks
    forget = {"forget": own.forget, "options": {}, "refusal": ""}
    grid = {"learning_rates": (own.learning_rate,), "forget_weights": (own.forget_weight,)}
    return dataclasses.replace(
        settings.edit, steps=own.steps, parts=1, weight_decay=0.0, **forget, **grid
    )


def counts(settings: config.Editing, model: Model, units: Units) -> list[int]:
    """The numbers of weights that are set to 0, as far as a choice has so many."""
    space = selection.space(model)
    total = space.layers * sum(selection.sizes(space).values())
    size = selection.parameter_count(units, space)
    return [n for share in settings.weight_masks.zeroed if (n := round(share * total)) <= size]


def zeroed(
    setup: EditSetup,
    seed: int,
    units: Units,
    layers: Layers,
    mask: Mapping[str, Float[np.ndarray, "K ..."]],
    base: PyTree,
) -> Iterator[Zeroed]:
    """Set more and more weights to 0, by the trained mask and at random, and ask everything."""
    space, mesh = selection.space(setup.model), meshes.make(setup.config.parallel, 1)
    marked = selection.mask(units, space).marked
    own = {
        path: np.broadcast_to(marked[path][np.array(chosen)], mask[path].shape)
        for path, chosen in layers
    }
    draws = np.random.default_rng((seed, 4))
    orders = {
        TRAINED: order(mask, own, draws),
        RANDOM: order({path: np.ones_like(leaf) for path, leaf in mask.items()}, own, draws),
    }
    rows = {path: hosts.fetch(leaf) for path, leaf in overlay.rows(base, layers).items()}
    for chosen_by, ranked in orders.items():
        for count in counts(setup.config, setup.model, units):
            gone = smallest(ranked, count, own)
            left = {path: np.where(gone[path], 0, leaf) for path, leaf in rows.items()}
            params = sweep.with_rows(base, layers, left, mesh)
            yield Zeroed(
                chosen_by,
                count,
                _by_layer(gone, layers, space),
                asked.answered(setup.model, params, setup.asked[seed]),
                sweep.text_loss(setup, seed, params),
            )


def order(
    mask: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], rng: np.random.Generator
) -> Int[np.ndarray, " N"]:
    """Places of the weights in `own`, over all leaves one after another, the smallest mask first.

    Equal masks are in random order.
    """
    values = np.concatenate([mask[path][own[path]] for path in mask])
    return np.lexsort((rng.permutation(len(values)), values))


def smallest(
    ranked: Int[np.ndarray, " N"], count: int, own: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The first `count` of the ranked weights, as booleans in the shape of each leaf."""
    chosen = np.zeros(len(ranked), bool)
    chosen[ranked[:count]] = True
    parts = np.split(chosen, np.cumsum([rows.sum() for rows in own.values()])[:-1])
    found = {}
    for (path, rows), part in zip(own.items(), parts, strict=True):
        found[path] = np.zeros(rows.shape, bool)
        found[path][rows] = part
    return found


def _by_layer(
    gone: Mapping[str, np.ndarray], layers: Layers, space: selection.Space
) -> dict[str, Int[np.ndarray, " L"]]:
    whole = {}
    for path, chosen in layers:
        whole[path] = np.zeros((space.layers, *gone[path].shape[1:]), bool)
        whole[path][np.array(chosen)] = gone[path]
    shapes = space.shapes
    return {
        part: sum(
            (masks.count_by_layer(whole[p], shapes[p]) for p in matrices if p in whole),
            np.zeros(space.layers, np.int64),
        )
        for part, matrices in space.matrices.items()
    }


def key(setup: EditSetup, seed: int, units: Units, model_key: str) -> str:
    """The key of a stage."""
    marked: Mask = selection.mask(units, selection.space(setup.model))
    entries = [[p, list(m.shape), np.packbits(m).tolist()] for p, m in marked.marked.items()]
    return runs.key_of(
        "weight masks", seed, loading.plain(setup.config.weight_masks) | {"arms": None},
        sweep.plain(setup.config.edit), loading.plain(setup.config.facts),
        setup.localization.facts[seed].digest, setup.config.model.dtype, entries, model_key,
        setup.side_digests(seed),
    )  # fmt: skip
