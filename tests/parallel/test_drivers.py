"""All drivers and all numbers of devices take the same steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from relearn_jax import config
from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import UserError
from relearn_jax.models.inputs import Inputs
from relearn_jax.parallel import drivers, mesh, sharding
from relearn_jax.training import optimizer
from relearn_jax.training.step import Round, start

STEPS, B, T = 20, 16, 12
SETTINGS = config.Training(learning_rate=1e-3)


def batches(number, sets=None):
    """Batches whose rows have very unequal numbers of tokens, so that devices have too."""
    rng = np.random.default_rng(0)
    shape = (B,) if sets is None else (sets, B)
    for _ in range(number):
        lengths = rng.integers(0, T + 1, shape) * (np.arange(B) % 4 == 0) + 1
        real = np.arange(T) < lengths[..., None]
        ids = rng.integers(1, 1000, (*shape, T)).astype(np.int32)
        labels = np.where(real, rng.integers(0, len(tiny.LABELS), (*shape, T)), -100)
        row = np.broadcast_to(np.arange(B, dtype=np.int32), shape)
        yield TokenBatch(Inputs(ids, real), labels.astype(np.int32), row)


def trained(tagger, driver="jit", sizes=(1, 1, 1, 1), sets=2, parts=1, per_set=False, steps=STEPS):
    """Parameters of `sets` sets with different dropout after some steps, and the last sums."""
    count = int(np.prod(sizes))
    settings = config.Parallel(driver, *sizes)
    grid = mesh.make(settings, sets, jax.devices()[:count])
    direction = optimizer.direction(SETTINGS)
    step = drivers.make(driver, grid, tagger.model, direction, parts)
    stacked = jax.tree.map(lambda x: jnp.stack([x * (1 + c) for c in range(sets)]), tagger.params)
    state = jax.vmap(lambda p: start(p, direction))(stacked)
    state = jax.device_put(state, sharding.shardings(state, grid, sets_axis=True))
    keys = jax.vmap(jax.random.key)(jnp.arange(sets))
    round_ = Round(optimizer.schedule(SETTINGS, steps), keys)
    for batch in batches(steps, sets if per_set else None):
        state, sums = step(state, batch, round_)
    assert tagger.model.config.hidden_dropout > 0, "dropout has to agree too"
    return jax.device_get(state.params), jax.device_get(sums), state


def assert_agree(one, other):
    """To 1e-5, but where the true gradient is 0 and Adam makes steps of its rounding noise.

    A key's bias shifts all scores of a query alike, which softmax ignores.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(one)
    for (path, a), b in zip(paths, jax.tree.leaves(other), strict=True):
        noise = paths.name(path).endswith("key/bias")
        np.testing.assert_allclose(
            a, b, rtol=1e-5, atol=1e-3 if noise else 1e-5, err_msg=paths.name(path)
        )


@pytest.fixture(scope="module")
def alone(tagger):
    return {per_set: trained(tagger, per_set=per_set) for per_set in (False, True)}


@pytest.mark.parametrize("per_set", [False, True])
@pytest.mark.parametrize(
    ("driver", "sizes"),
    [
        ("jit", (1, 8, 1, 1)), ("jit", (2, 4, 1, 1)), ("jit", (2, 1, 2, 2)), ("jit", (1, 2, 2, 2)),
        ("shard_map", (1, 8, 1, 1)), ("shard_map", (2, 4, 1, 1)), ("pmap", (1, 8, 1, 1)),
    ],
)  # fmt: skip
def test_eight_devices_do_what_one_does(tagger, alone, driver, sizes, per_set):
    params, sums, _ = trained(tagger, driver, sizes, per_set=per_set)
    assert_agree(alone[per_set][:2], (params, sums))


def test_a_set_alone_is_the_set_among_others(tagger, alone):
    one, _, _ = trained(tagger, sets=1)
    assert_agree(*(jax.tree.map(lambda x: x[0], tree) for tree in (one, alone[False][0])))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 4, 2, 1)])
def test_a_batch_in_parts_is_the_batch(tagger, alone, sizes):
    params, sums, _ = trained(tagger, sizes=sizes, parts=2)
    assert_agree(alone[False][:2], (params, sums))


def test_the_state_stays_where_the_rules_put_it(tagger):
    *_, state = trained(tagger, sizes=(2, 1, 2, 2), steps=2)
    grid = state.params["blocks"]["up"]["kernel"].sharding.mesh
    wanted = sharding.shardings(state, grid, sets_axis=True)
    for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True):
        assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
    up = state.params["blocks"]["up"]["kernel"]
    assert up.shape == (2, 2, 16, 24)
    assert up.addressable_shards[0].data.shape == (1, 2, 8, 12), "sets, layers, width, neurons"
    moment = state.moments[1].mu["blocks"]["up"]["kernel"]
    assert moment.addressable_shards[0].data.shape == (1, 2, 8, 12)


@pytest.mark.parametrize(("driver", "sizes"), [("pmap", (2, 4, 1, 1)), ("shard_map", (1, 4, 2, 1))])
def test_a_driver_refuses_axes_it_cannot_use(tagger, driver, sizes):
    grid = mesh.make(config.Parallel(driver, *sizes), 2)
    with pytest.raises(UserError, match="cannot use the mesh axis"):
        drivers.make(driver, grid, tagger.model, optimizer.direction(SETTINGS))


def test_axes_left_open_take_what_the_others_leave():
    sizes = mesh.axis_sizes
    assert sizes(config.Parallel(), 1, 8) == (1, 8, 1, 1)
    assert sizes(config.Parallel(), 3, 8) == (2, 4, 1, 1)
    assert sizes(config.Parallel(), 16, 8) == (8, 1, 1, 1)
    assert sizes(config.Parallel(fsdp=2), 16, 8) == (4, 1, 2, 1)
    assert sizes(config.Parallel(data=8), 16, 8) == (1, 8, 1, 1)
    assert sizes(config.Parallel("pmap"), 16, 8) == (1, 8, 1, 1), "it knows data alone"
    assert sizes(config.Parallel("shard_map"), 16, 8) == (8, 1, 1, 1)
    assert sizes(config.Parallel(sets=1, data=1, fsdp=4, tensor=2), 16, 8) == (1, 1, 4, 2)
    with pytest.raises(UserError, match="makes 16 devices"):
        mesh.make(config.Parallel(fsdp=16), 1)
