"""Laws of the training step and its loop."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_free_schedule as reference

from relearn_jax import config
from relearn_jax.config import Training
from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import UserError
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.paths import flatten
from relearn_jax.neurons import masks
from relearn_jax.parallel import drivers, mesh
from relearn_jax.training import loop, optimizer
from relearn_jax.training.step import Round, start, train_step

SETTINGS = Training(learning_rate=1e-3)
DIRECTION = optimizer.direction(SETTINGS)


@pytest.fixture(scope="module")
def step(tagger):
    return jax.jit(partial(train_step, tagger.model, DIRECTION))


def batch(rows=8, length=16, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(length) < rng.integers(3, length + 1, (rows, 1))
    labels = np.where(mask, rng.integers(0, 9, (rows, length)), -100).astype(np.int32)
    ids = rng.integers(1000, 3000, (rows, length)).astype(np.int32)
    return TokenBatch(Inputs(ids, mask), labels, np.arange(rows, dtype=np.int32))


def round_of(steps=100, **values):
    return Round(optimizer.schedule(SETTINGS, steps), jax.random.key(0), **values)


def test_pruned_entries_stay_pruned_only_when_frozen(tagger, step):
    keep = np.ones((3, 16), bool)
    keep[1:, ::2] = False
    leaves = tagger.model.family.neurons["ln_gain_bias"]
    multipliers = masks.expand(masks.NeuronMask(keep, "states"), tagger.params, leaves)
    pruned = masks.apply(tagger.params, multipliers)
    held = {p: m for p, m in flatten(multipliers).items() if p in leaves}
    for frozen, value in ((None, False), (held, True)):
        state = start(pruned, DIRECTION)
        for seed in range(3):
            state, _ = step(state, batch(seed=seed), round_of(keep=frozen))
        for path in leaves:
            gone = np.asarray(flatten(state.params)[path])[:, ::2]
            assert np.all(gone == 0) == value, path


def test_an_all_ones_multiplier_changes_nothing(tagger, step):
    leaves = tagger.model.family.neurons["ln_gain"]
    whole = masks.NeuronMask(np.ones((3, 16), bool), "states")
    ones = flatten(masks.expand(whole, tagger.params, leaves))
    ones = {p: m for p, m in ones.items() if p in leaves}
    a, _ = step(start(tagger.params, DIRECTION), batch(), round_of())
    b, _ = step(start(tagger.params, DIRECTION), batch(), round_of(keep=ones))
    chex.assert_trees_all_close(a.params, b.params, atol=1e-7)


def test_only_what_is_trainable_moves(tagger, step):
    before = flatten(tagger.params)
    rows = jnp.array([0.0, 1.0])[:, None, None]
    move = {path: jnp.zeros(()) for path in before} | {"blocks/up/kernel": rows}
    state = start(tagger.params, DIRECTION)
    for seed in range(2):
        state, _ = step(state, batch(seed=seed), round_of(trainable=move))
    after = flatten(state.params)
    for path in before:
        if path != "blocks/up/kernel":
            np.testing.assert_array_equal(before[path], after[path], err_msg=path)
    moved = np.asarray(before["blocks/up/kernel"]) != np.asarray(after["blocks/up/kernel"])
    assert not moved[0].any()
    assert moved[1].mean() > 0.9
    ones = {path: jnp.ones(()) for path in before}
    a, _ = step(start(tagger.params, DIRECTION), batch(), round_of())
    b, _ = step(start(tagger.params, DIRECTION), batch(), round_of(trainable=ones))
    chex.assert_trees_all_close(a.params, b.params, atol=1e-7)


def test_decay_goes_by_name(tagger):
    marks = flatten(optimizer.decayed(tagger.params))
    assert marks["embed/word/embedding"]
    assert marks["blocks/up/kernel"]
    assert not marks["blocks/up/bias"], "a stacked bias has two axes and is still a bias"
    assert not marks["blocks/output_norm/scale"]
    assert not marks["embed/norm/bias"]


@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_the_schedule_is_the_usual_linear_one(warmup):
    settings = Training(learning_rate=3e-4, warmup=warmup)
    schedule = optimizer.schedule(settings, 50)
    ours = [float(optimizer.rate(schedule, jnp.int32(i))) for i in range(50)]
    np.testing.assert_allclose(ours, reference.linear(3e-4, 50, warmup), rtol=1e-5)


@pytest.fixture(scope="module")
def driver(tagger):
    """The step of C sets on one device, and a state of two: the tagger, and its double."""
    grid = mesh.make(config.Parallel(), 2, jax.devices()[:1])
    step = drivers.make("jit", grid, tagger.model, DIRECTION)

    def state(scale=1.0):
        pair = jax.tree.map(lambda x: jnp.stack([x, x * 2 * scale]), tagger.params)
        return jax.vmap(lambda p: start(p, DIRECTION))(pair)

    return step, state


def rounds_of(steps=100):
    return round_of(steps)._replace(key=jax.random.split(jax.random.key(0), 2))


def hooks(**given):
    silent = {
        "log": lambda x: None, "due": lambda at: False, "save": lambda *x: None,
        "after_epoch": lambda *x: None,
    }  # fmt: skip
    return loop.Hooks(**(silent | given))


def test_a_loss_that_is_not_finite_stops_and_names_set_and_step(driver):
    step, state = driver
    places = ["seed 0, base", "seed 1, base"]
    with pytest.raises(UserError, match=r"step 0 of seed 1, base"):
        loop.fit(
            step, state(jnp.nan), rounds_of(), 1, lambda e, skip: iter([batch()] * 3), hooks(),
            places,
        )  # fmt: skip


def test_the_loop_logs_without_touching_donated_state(driver, tagger):
    step, state = driver
    lines, epochs = [], []
    last = loop.fit(
        step, state(), rounds_of(200), 2, lambda e, skip: iter([batch(seed=e)] * 60),
        hooks(log=lines.extend, after_epoch=lambda e, p: epochs.append(e)), ["here", "there"],
    )  # fmt: skip
    assert epochs == [1, 2]
    assert [line["step"] for line in lines] == [25, 25, 50, 50, 85, 85, 110, 110]
    assert lines[-2]["loss"] < lines[0]["loss"]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(last.params))
    assert np.isfinite(np.asarray(tagger.params["embed"]["word"]["embedding"])).all()


def test_lines_reach_the_log_before_a_save(driver, monkeypatch):
    """What a killed process had logged is what its checkpoint has behind it."""
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    step, state = driver
    lines, seen = [], []
    saving = hooks(
        log=lines.extend, due=lambda at: at.batch in (2, 5),
        save=lambda at, state: seen.append((at.batch, [line["step"] for line in lines[::2]])),
    )  # fmt: skip
    loop.fit(step, state(), rounds_of(), 1, lambda e, skip: iter([batch()] * 6), saving, ["a", "b"])
    assert seen == [(2, [2]), (5, [2, 4])]
    assert [line["step"] for line in lines[::2]] == [2, 4, 6]


def test_a_round_taken_up_in_the_middle_ends_where_the_whole_one_does(driver):
    step, state = driver
    rows = [batch(seed=s) for s in range(6)]

    def batches(epoch, skip):
        return iter(rows[3 * epoch : 3 * epoch + 3][skip:])

    def save(at, state):
        kept.append(jax.tree.map(jnp.copy, state))

    kept = []
    saving = hooks(due=loop.Position(1, 1).__eq__, save=save)
    whole = loop.fit(step, state(), rounds_of(), 2, batches, saving, ["a", "b"])
    again = loop.fit(
        step, kept[0], rounds_of(), 2, batches, hooks(), ["a", "b"], loop.Position(1, 1)
    )
    chex.assert_trees_all_equal(whole, again)


def test_a_bucket_compiles_once(tagger):
    fresh = jax.jit(partial(train_step, tagger.model, DIRECTION))
    state = start(tagger.params, DIRECTION)
    for length in (16, 32, 16, 32, 16):
        state, _ = fresh(state, batch(length=length, seed=length), round_of())
    state, _ = fresh(start(tagger.params, DIRECTION), batch(seed=9), round_of(7))
    assert fresh._cache_size() == 2
