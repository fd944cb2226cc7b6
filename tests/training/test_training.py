"""Laws of the training step and its loop."""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_free_schedule as reference

from relearn_jax import config
from relearn_jax.config import Training
from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import UserError
from relearn_jax.models import masks, transformer, weights
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.masks import Mask
from relearn_jax.models.paths import flatten, partition
from relearn_jax.parallel import drivers, mesh
from relearn_jax.training import loop, losses, optimizer
from relearn_jax.training.losses import TASK
from relearn_jax.training.step import Round, start, to_bfloat16, train_step

SETTINGS = Training(learning_rate=1e-3)
DIRECTION = optimizer.direction(SETTINGS)


@pytest.fixture(scope="module")
def step(tagger):
    return jax.jit(partial(train_step, loss_of(tagger.model), DIRECTION))


def loss_of(model):
    return partial(losses.token_classification, model)


def batch(rows=8, length=16, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(length) < rng.integers(3, length + 1, (rows, 1))
    labels = np.where(mask, rng.integers(0, 9, (rows, length)), -100).astype(np.int32)
    ids = rng.integers(1000, 3000, (rows, length)).astype(np.int32)
    return {TASK: TokenBatch(Inputs(ids, mask), labels, np.arange(rows, dtype=np.int32))}


def round_of(steps=100, **values):
    return Round(optimizer.schedule(SETTINGS, steps), jax.random.key(0), **values)


def pruned_mask(tagger, pruned):
    leaves = tagger.model.family.neurons["ln_gain_bias"]
    return masks.of_neurons(pruned, "states", leaves, weights.shapes(tagger.model))


def test_pruned_entries_stay_pruned_only_when_held(tagger, step):
    pruned = np.zeros((3, 16), bool)
    pruned[1:, ::2] = True
    mask = pruned_mask(tagger, pruned)
    without = masks.remove(tagger.params, mask)
    for held, stays in ((None, False), (mask, True)):
        state = start(without, DIRECTION)
        for seed in range(3):
            state, _ = step(state, batch(seed=seed), round_of(held=held))
        for path in mask.marked:
            gone = np.asarray(flatten(state.params)[path])[:, ::2]
            assert np.all(gone == 0) == stays, path


def test_a_mask_that_holds_nothing_changes_nothing(tagger, step):
    nothing = pruned_mask(tagger, np.zeros((3, 16), bool))
    a, _ = step(start(tagger.params, DIRECTION), batch(), round_of())
    b, _ = step(start(tagger.params, DIRECTION), batch(), round_of(held=nothing))
    chex.assert_trees_all_close(a.params, b.params, atol=1e-7)


def test_frozen_leaves_have_neither_moments_nor_updates(tagger, step):
    """Of the one trainable leaf, layer 0 is held."""
    trainable, frozen = partition(tagger.params, lambda path: path == "blocks/up/kernel")
    held = Mask({"blocks/up/kernel": np.array([True, False])[:, None, None]})
    state = start(trainable, DIRECTION)
    for seed in range(2):
        state, _ = step(state, batch(seed=seed), round_of(frozen=frozen, held=held))
    assert set(flatten(state.params)) == {"blocks/up/kernel"}
    size = tagger.params["blocks"]["up"]["kernel"].size
    assert sum(leaf.size for leaf in jax.tree.leaves(state.moments)) == 2 * size + 1
    before = np.asarray(tagger.params["blocks"]["up"]["kernel"])
    moved = before != np.asarray(state.params["blocks"]["up"]["kernel"])
    assert not moved[0].any()
    assert moved[1].mean() > 0.9


def test_freezing_a_leaf_and_holding_all_its_entries_agree(tagger, step):
    trainable, frozen = partition(tagger.params, lambda path: path == "blocks/up/kernel")
    every = flatten(tagger.params)
    held = Mask({path: np.ones((), bool) for path in every if path != "blocks/up/kernel"})
    a, _ = step(start(trainable, DIRECTION), batch(), round_of(frozen=frozen))
    b, _ = step(start(tagger.params, DIRECTION), batch(), round_of(held=held))
    after = flatten(b.params)
    ours = a.params["blocks"]["up"]["kernel"]
    np.testing.assert_allclose(ours, after.pop("blocks/up/kernel"), atol=1e-7)
    for path, leaf in after.items():
        np.testing.assert_array_equal(leaf, every[path], err_msg=path)


@pytest.mark.slow
def test_frozen_leaves_have_no_gradients_moments_or_updates_in_memory(tagger):
    def written(trainable, **given):
        step = jax.jit(partial(train_step, loss_of(tagger.model), DIRECTION))
        lowered = step.lower(start(trainable, DIRECTION), batch(1, 16), round_of(**given))
        sizes = lowered.compile().memory_analysis()
        return sizes.temp_size_in_bytes + sizes.output_size_in_bytes

    words = tagger.params["embed"]["word"]["embedding"].nbytes
    trainable, frozen = partition(tagger.params, lambda path: path.startswith("blocks"))
    assert written(tagger.params) > written(trainable, frozen=frozen) + 3 * words
    assert written(trainable, frozen=frozen) < words


def two_terms(model, params, reference, texts):
    """What is forgotten, climbing; and what is kept, against the reference's own logits."""
    forget = losses.cross_entropy(model, params, texts["forget"])
    batch, keys, *_ = texts["retain"]
    ours, theirs = (
        transformer.apply(model, p, batch.inputs, keys=k)[0]
        for p, k in ((params, keys), (reference, None))
    )
    gap = (jnp.square(ours - theirs).sum(-1) * batch.inputs.mask).sum()
    return {
        "forget": losses.Term(-forget.sum, forget.count),
        "retain": losses.Term(gap, batch.inputs.mask.sum().astype(jnp.float32)),
    }


def two_texts():
    return {"forget": batch(4, 16, 1)[TASK], "retain": batch(8, 32, 2)[TASK]}


@pytest.fixture(scope="module")
def means(tagger):
    """A model without dropout, the round, and the loss and parameters of one plain step by
    jax.grad of the weighted means themselves."""
    still = dataclasses.replace(
        tagger.model.config, hidden_dropout=0.0, attention_dropout=0.0, head_dropout=0.0
    )
    model = dataclasses.replace(tagger.model, config=still)
    reference = jax.tree.map(lambda x: x * 1.1, tagger.params)
    term_weights = {"forget": 0.3, "retain": 2.0}

    def loss(params):
        texts = {name: losses.Text(text) for name, text in two_texts().items()}
        terms = two_terms(model, params, reference, texts)
        return sum(term_weights[name] * term.sum / term.count for name, term in terms.items())

    value, grads = jax.jit(jax.value_and_grad(loss))(tagger.params)
    moved = jax.tree.map(lambda p, g: p - SETTINGS.learning_rate * g, tagger.params, grads)
    return model, round_of(weights=term_weights, reference=reference), value, moved


@pytest.mark.parametrize("parts", [1, 2])
def test_two_texts_and_two_terms_are_their_weighted_means(tagger, means, parts):
    model, round_, value, moved = means
    plain = optax.identity()
    step = jax.jit(partial(train_step, partial(two_terms, model), plain, parts=parts))
    state, sums = step(start(tagger.params, plain), two_texts(), round_)
    np.testing.assert_allclose(sums.loss, value, rtol=1e-5)
    chex.assert_trees_all_close(state.params, moved, atol=1e-6)
    assert set(sums.terms) == {"forget", "retain"}


@pytest.mark.slow
def test_counting_first_costs_no_second_pass(tagger):
    """XLA drops the sums of the pass that is there for its counts."""

    def flops(f):
        return jax.jit(f).lower(tagger.params).compile().cost_analysis()["flops"]

    loss = loss_of(tagger.model)
    texts = {TASK: losses.Text(batch()[TASK], jax.random.split(jax.random.key(0), 8))}
    step = partial(train_step, loss, optax.identity())

    def once(params):
        grads = jax.grad(lambda params: loss(params, None, texts)[TASK].sum)(params)
        return jax.tree.map(lambda p, g: p + round_of().schedule.peak * (g / 3), params, grads)

    whole = flops(lambda params: step(start(params, optax.identity()), batch(), round_of()))
    forward = flops(lambda params: loss(params, None, texts)[TASK].sum)
    # XLA folds one more multiplication of each parameter where everything is a constant.
    folded = sum(leaf.size for leaf in jax.tree.leaves(tagger.params))
    assert whole - flops(once) - folded < 0.1 * forward


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


def test_the_cosine_schedule_is_that_of_optax():
    settings = Training(learning_rate=3e-4, warmup=0.0)
    schedule = optimizer.schedule(settings, 50, cosine=True)
    ours = [float(optimizer.rate(schedule, jnp.int32(i))) for i in range(50)]
    theirs = optax.cosine_decay_schedule(3e-4, 50)
    np.testing.assert_allclose(ours, [theirs(i) for i in range(50)], rtol=1e-4, atol=1e-10)


@pytest.fixture(scope="module")
def driver(tagger):
    """The step of C sets on one device, and a state of two: the tagger, and its double."""
    grid = mesh.make(config.Parallel(), 2, jax.devices()[:1])
    step = drivers.make("jit", grid, drivers.body(loss_of(tagger.model), DIRECTION))

    def state(scale=1.0):
        pair = jax.tree.map(lambda x: np.stack([x, np.asarray(x) * 2 * scale]), tagger.params)
        return jax.vmap(lambda p: start(p, DIRECTION))(pair)

    return step, state


def rounds_of(steps=100):
    one = round_of(steps)
    schedule = jax.tree.map(lambda x: np.full(2, x), one.schedule)
    return one._replace(schedule=schedule, key=jax.random.split(jax.random.key(0), 2))


def callbacks(**given):
    silent = {
        "log": lambda x: None, "due": lambda at: False, "reached": lambda *x: None,
        "after_epoch": lambda *x: None,
    }  # fmt: skip
    return loop.Callbacks(**(silent | given))


def test_a_loss_that_is_not_finite_stops_and_names_set_and_step(driver):
    step, state = driver
    places = ["seed 0, base", "seed 1, base"]
    with pytest.raises(UserError, match=r"step 0 of seed 1, base"):
        loop.fit(
            step, state(jnp.nan), rounds_of(), 1, lambda e, skip: iter([batch()] * 3), callbacks(),
            places,
        )  # fmt: skip


def test_the_loop_logs_without_touching_donated_state(driver, tagger):
    step, state = driver
    lines, epochs = [], []
    last = loop.fit(
        step, state(), rounds_of(200), 2, lambda e, skip: iter([batch(seed=e)] * 60),
        callbacks(log=lines.extend, after_epoch=lambda at, p: epochs.append(at)), ["here", "there"],
    )  # fmt: skip
    assert epochs == [(0, 60), (1, 60)]
    assert [line["step"] for line in lines] == [25, 25, 50, 50, 85, 85, 110, 110]
    assert lines[-2]["loss"] < lines[0]["loss"]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(last.params))
    assert np.isfinite(np.asarray(tagger.params["embed"]["word"]["embedding"])).all()


def test_lines_reach_the_log_before_a_save(driver, monkeypatch):
    """What a killed process had logged is what its checkpoint has behind it."""
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    step, state = driver
    lines, seen = [], []
    saving = callbacks(
        log=lines.extend, due=lambda at: at.batch in (2, 5),
        reached=lambda at, state: seen.append((at.batch, [line["step"] for line in lines[::2]])),
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
    saving = callbacks(due=loop.Position(1, 1).__eq__, reached=save)
    whole = loop.fit(step, state(), rounds_of(), 2, batches, saving, ["a", "b"])
    again = loop.fit(
        step, kept[0], rounds_of(), 2, batches, callbacks(), ["a", "b"], loop.Position(1, 1)
    )
    chex.assert_trees_all_equal(whole, again)


def test_a_bucket_compiles_once(tagger):
    fresh = jax.jit(partial(train_step, loss_of(tagger.model), DIRECTION))
    state = start(tagger.params, DIRECTION)
    for length in (16, 32, 16, 32, 16):
        state, _ = fresh(state, batch(length=length, seed=length), round_of())
    state, _ = fresh(start(tagger.params, DIRECTION), batch(seed=9), round_of(7))
    assert fresh._cache_size() == 2


def test_parameters_rounded_to_bfloat16_lose_small_updates(tagger):
    """Adam moves every entry by about the learning rate: lost where it is below 1/512 of the entry
    (specs: mechanistic unlearning, D10)."""
    settings = Training(learning_rate=1e-5, weight_decay=0.0)
    direction = optimizer.direction(settings)
    round_ = Round(optimizer.schedule(settings, 100), jax.random.key(0))
    bf16 = jax.tree.map(lambda x: jax.lax.reduce_precision(x, 8, 7), tagger.params)
    after = {}
    for project in (None, to_bfloat16):
        step = jax.jit(partial(train_step, loss_of(tagger.model), direction, project=project))
        after[project], _ = step(start(bf16, direction), batch(), round_)
    for path, before in flatten(bf16).items():
        kept, exact = (flatten(after[r].params)[path] for r in (to_bfloat16, None))
        np.testing.assert_array_equal(kept, kept.astype(jnp.bfloat16).astype(jnp.float32))
        large = np.abs(before) > 512 * 1e-5
        np.testing.assert_array_equal(kept[large], before[large])
        moved = np.asarray(exact != before) & large
        assert moved.any() or not large.any() or path.startswith("embed")
