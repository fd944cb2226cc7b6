"""All drivers and all numbers of devices take the same steps."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from relearn_jax import config
from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, paths, transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.parallel import drivers, mesh, sharding
from relearn_jax.training import losses, optimizer
from relearn_jax.training.losses import TASK
from relearn_jax.training.step import Round, start

STEPS, B, T = 10, 16, 12
SETTINGS = config.Training(learning_rate=1e-3)


class Tagger(NamedTuple):
    model: Any
    params: Any


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    """As small as rows and columns for every device allow, words included."""
    opened = checkpoint.open_checkpoint("random", settings=tiny.SIZES | {"vocab_size": 1000})
    model = checkpoint.describe(opened, "token-classification", tiny.LABELS)
    return Tagger(model, jax.jit(partial(transformer.init, model))(jax.random.key(1)))


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
        yield {TASK: TokenBatch(Inputs(ids, real), labels.astype(np.int32), row)}


@pytest.fixture(scope="module")
def trained(tagger):
    """`train` for this tagger, once for the same settings."""
    return cache(partial(train, tagger))


def train(tagger, driver="jit", sizes=(1, 1, 1, 1), sets=2, parts=1, per_set=False):
    """Parameters of `sets` sets with different dropout after some steps, and the last sums."""
    count = int(np.prod(sizes))
    settings = config.Parallel(driver, *sizes)
    grid = mesh.make(settings, sets, jax.devices()[:count])
    direction = optimizer.direction(SETTINGS)
    loss = partial(losses.token_classification, sharding.spread(tagger.model, grid))
    step = drivers.make(driver, grid, drivers.body(loss, direction, parts))
    stacked = jax.tree.map(lambda x: stack([x * (1 + c) for c in range(sets)]), tagger.params)
    state = jax.vmap(lambda p: start(p, direction))(stacked)
    state = jax.device_put(state, sharding.shardings(state, grid, sets_axis=True))
    keys = jax.vmap(jax.random.key)(jnp.arange(sets))
    schedule = optimizer.schedule(SETTINGS, STEPS)
    round_ = Round(jax.tree.map(lambda x: np.full(sets, x), schedule), keys)
    for batch in batches(STEPS, sets if per_set else None):
        state, sums = step(state, batch, round_)
    assert tagger.model.config.hidden_dropout > 0, "dropout has to agree too"
    return jax.device_get(state.params), jax.device_get(sums), state


def stack(leaves):
    """On the host: each operation on a device is a program to compile."""
    return np.stack([np.asarray(leaf) for leaf in leaves])


def assert_agree(one, other):
    """To 1e-5, but where the true gradient is 0 and Adam makes steps of its rounding noise.

    A key's bias shifts all scores of a query alike, which softmax ignores.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(one)
    for (path, a), b in zip(leaves, jax.tree.leaves(other), strict=True):
        noise = paths.name(path).endswith("key/bias")
        np.testing.assert_allclose(
            a, b, rtol=1e-5, atol=1e-3 if noise else 1e-5, err_msg=paths.name(path)
        )


@pytest.mark.parametrize(
    ("driver", "sizes", "per_set"),
    [
        ("jit", (2, 1, 2, 2), True), ("shard_map", (2, 4, 1, 1), False),
        ("pmap", (1, 8, 1, 1), False),
        *(
            pytest.param(driver, sizes, per_set, marks=pytest.mark.slow)
            for driver, sizes, per_set in (
                ("jit", (1, 8, 1, 1), False), ("jit", (1, 8, 1, 1), True),
                ("jit", (2, 4, 1, 1), False), ("jit", (2, 4, 1, 1), True),
                ("jit", (2, 1, 2, 2), False),
                ("jit", (1, 2, 2, 2), False), ("jit", (1, 2, 2, 2), True),
                ("shard_map", (1, 8, 1, 1), False), ("shard_map", (1, 8, 1, 1), True),
                ("shard_map", (2, 4, 1, 1), True), ("pmap", (1, 8, 1, 1), True),
            )
        ),
    ],
)  # fmt: skip
def test_eight_devices_do_what_one_does(trained, driver, sizes, per_set):
    assert_agree(trained(per_set=per_set)[:2], trained(driver, sizes, per_set=per_set)[:2])


def test_a_set_alone_is_the_set_among_others(trained):
    one, among = trained(sets=1)[0], trained(per_set=False)[0]
    assert_agree(*(jax.tree.map(lambda x: x[0], tree) for tree in (one, among)))


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), pytest.param((1, 4, 2, 1), marks=pytest.mark.slow)]
)
def test_a_batch_in_parts_is_the_batch(trained, sizes):
    assert_agree(trained(per_set=False)[:2], trained(sizes=sizes, parts=2)[:2])


def test_the_state_stays_where_the_rules_put_it(trained):
    *_, state = trained("jit", (2, 1, 2, 2), per_set=True)
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
    loss = partial(losses.token_classification, tagger.model)
    body = drivers.body(loss, optimizer.direction(SETTINGS))
    with pytest.raises(UserError, match="cannot use the mesh axis"):
        drivers.make(driver, grid, body)


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


def apart(model, params, reference, texts):
    """Two terms on two texts of different sizes; the second compares with a reference."""
    forget = losses.cross_entropy(model, params, texts["forget"])
    batch, keys, sites, _ = texts["retain"]
    ours, theirs = (
        transformer.apply(model, p, batch.inputs, sites, keys=keys)[0] for p in (params, reference)
    )
    counted = (batch.labels >= 0).astype(jnp.float32)
    gap = (jnp.square(ours - theirs).sum(-1) * counted).sum()
    return {"forget": forget, "retain": losses.Term(gap, counted.sum())}


def attacked(tagger, driver="jit", sizes=(1, 1, 1, 1), chosen=(0, 1), shared=False):
    """Parameters of sets with learning rates and loss weights of their own, after three steps."""
    grid = mesh.make(config.Parallel(driver, *sizes), len(chosen), jax.devices()[: np.prod(sizes)])
    direction = optimizer.direction(SETTINGS)
    loss = partial(apart, sharding.spread(tagger.model, grid))
    step = drivers.make(
        driver, grid, drivers.body(loss, direction, shared=("reference",) if shared else ())
    )
    rates, weights = np.array([1e-3, 3e-4]), np.array([[1.0, 0.2], [0.5, 2.0]])
    rows = np.array(chosen)
    state = jax.vmap(lambda p: start(p, direction))(
        jax.tree.map(lambda x: stack([x * (1 + c) for c in chosen]), tagger.params)
    )
    state = jax.device_put(state, sharding.shardings(state, grid, sets_axis=True))
    # Unlike every set: where they agree, the gradient is noise, of which Adam makes steps.
    reference = jax.tree.map(lambda x: 1.5 * np.asarray(x), tagger.params)
    if not shared:
        reference = jax.tree.map(lambda x: stack([x] * len(chosen)), reference)
    round_ = Round(
        optimizer.Schedule(
            np.float32(rates[rows]),
            *(np.full(len(chosen), x, np.float32) for x in (10.0, 0.0, 0.0)),
        ),
        jax.vmap(jax.random.key)(rows.astype(np.uint32)),
        weights={name: np.float32(weights[rows, i]) for i, name in enumerate(("forget", "retain"))},
        reference=reference,
    )
    for forget, retain in zip(batches(3), batches(6), strict=False):
        small = jax.tree.map(lambda x: x[:8], forget[TASK])
        state, sums = step(state, {"forget": small, "retain": retain[TASK]}, round_)
    return jax.device_get(state.params), jax.device_get(sums.terms)


@pytest.fixture(scope="module")
def two_sets(tagger):
    return attacked(tagger)


@pytest.mark.parametrize(
    ("driver", "sizes"),
    [
        ("jit", (2, 1, 2, 2)), ("jit", (1, 8, 1, 1)), ("shard_map", (2, 4, 1, 1)),
        ("pmap", (1, 8, 1, 1)),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_two_texts_on_eight_devices_are_those_on_one(tagger, two_sets, driver, sizes):
    assert_agree(two_sets, attacked(tagger, driver, sizes))


@pytest.mark.parametrize("index", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_rates_and_loss_weights_are_a_sets_own(tagger, two_sets, index):
    alone = attacked(tagger, chosen=(index,))
    among = jax.tree.map(lambda x: x[index : index + 1], two_sets)
    assert_agree(alone, among)


@pytest.mark.parametrize(
    ("driver", "sizes"),
    [
        ("jit", (2, 1, 2, 2)), pytest.param("jit", (1, 1, 1, 1), marks=pytest.mark.slow),
        pytest.param("shard_map", (1, 1, 1, 1), marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_shared_reference_is_one_for_each(tagger, two_sets, driver, sizes):
    """Also on eight devices, with two texts."""
    assert_agree(two_sets, attacked(tagger, driver, sizes, shared=True))
