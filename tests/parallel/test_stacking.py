"""Models side by side: taken out as they went in, and never whole on one device."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax import config, hosts
from relearn_jax.data.batching import TokenBatch
from relearn_jax.experiments.concepts import measurements
from relearn_jax.models import paths
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Sites
from relearn_jax.parallel import drivers, mesh, sharding, stacking
from relearn_jax.training import losses, optimizer
from relearn_jax.training.losses import TASK
from relearn_jax.training.step import Round, start

SHARDED = config.Parallel(sets=2, data=1, fsdp=2, tensor=2)


@pytest.fixture(scope="module")
def models(tagger):
    """Three models of different parameters, as NumPy."""
    return [jax.tree.map(lambda x, s=s: np.asarray(x) * s, tagger.params) for s in (1, 2, 3)]


def stacked(models, parallel):
    grid = mesh.make(parallel, len(models))
    placed = [jax.device_put(m, sharding.shardings(m, grid)) for m in models]
    return grid, stacking.stack(grid, placed)


@pytest.mark.parametrize(
    "parallel",
    [
        SHARDED,
        config.Parallel(data=8),
        pytest.param(config.Parallel(sets=8), marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_what_is_taken_out_is_what_went_in(models, parallel):
    grid, together = stacked(models, parallel)
    assert stacking.fitted(grid, together, len(models)) is together
    for c, model in enumerate(models):
        one = jax.tree.map(hosts.fetch, stacking.one_model(grid, together, c))
        jax.tree.map(np.testing.assert_array_equal, one, model)


@pytest.mark.parametrize("there", [8, 1])
def test_models_filled_up_for_another_mesh_fit_this_one(models, there):
    """Three models were saved as eight, or as three; here they are four, two on each device."""
    small = mesh.make(config.Parallel(sets=2, data=1), 3, jax.devices()[:2])
    rows = [models[0], *models[1:], *[models[0]] * 5][: max(there, 3)]
    saved = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    again = stacking.fitted(small, saved, 3)
    for c, model in enumerate((*models, models[0])):
        one = jax.tree.map(lambda leaf, c=c: np.asarray(leaf[c]), again)
        jax.tree.map(np.testing.assert_array_equal, one, model)
    for leaf in jax.tree.leaves(again):
        assert leaf.shape[0] == 4
        assert leaf.addressable_shards[0].data.shape[0] == 2, "each device has its own models"


def test_zeros_lie_where_their_models_do():
    grid = mesh.make(config.Parallel(sets=4, data=2), 4)
    assert stacking.zeros(grid, (8, 3)).addressable_shards[0].data.shape == (2, 3)


def test_no_device_holds_what_the_rules_split(models):
    grid, together = stacked(models, SHARDED)
    one = stacking.one_model(grid, together, 1)
    for tree, sets_axis in ((together, True), (one, False)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            place = sharding.spec(paths.name(path), leaf.shape, grid, sets_axis)
            split = int(np.prod([grid.shape[a] for a in jax.tree.leaves(tuple(place))] or [1]))
            assert leaf.addressable_shards[0].data.size * split == leaf.size, path
    assert together["blocks"]["up"]["kernel"].addressable_shards[0].data.shape == (2, 2, 8, 12)


def batch():
    ids = np.ones((8, 12), np.int32)
    return TokenBatch(Inputs(ids, ids > 0), ids, np.arange(8, dtype=np.int32))


def compiled_evaluation(tagger, grid, params):
    inputs = drivers.put(grid, {TASK: batch()})[TASK]
    return (
        measurements.predict.lower(tagger.model, grid, params, inputs, Sites()).compile().as_text()
    )


def compiled_training(tagger, grid, params):
    direction = optimizer.direction(config.Training())
    loss = partial(losses.token_classification, sharding.spread(tagger.model, grid))
    step = drivers.over_mesh(grid, drivers.body(loss, direction))
    state = jax.jit(jax.vmap(lambda p: start(p, direction)))(params)
    state = jax.device_put(state, sharding.shardings(state, grid, sets_axis=True))
    schedule = optimizer.schedule(config.Training(), 10)
    round_ = Round(
        jax.tree.map(lambda x: np.full(4, x), schedule), jax.random.split(jax.random.key(0), 4)
    )
    return step.lower(state, drivers.put(grid, {TASK: batch()}), round_).compile().as_text()


@pytest.mark.parametrize("compiled", [compiled_evaluation, compiled_training])
def test_no_program_gathers_all_layers_of_a_matrix(tagger, models, compiled):
    grid, together = stacked(models, SHARDED)
    text = compiled(tagger, grid, together)
    layers, width, hidden = tagger.params["blocks"]["up"]["kernel"].shape
    for shape in (f"{layers},{width},{hidden}]", f"{layers},{hidden},{width}]"):
        assert shape not in text, "a stacked matrix is whole on one device"
    assert jnp.dtype("float32") == together["blocks"]["up"]["kernel"].dtype
