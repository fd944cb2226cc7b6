"""Masks under a budget: exact counts, published overshoot, seeded baselines, scores of scores."""

from __future__ import annotations

import math
from functools import partial

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from relearn_jax import config
from relearn_jax.errors import UserError
from relearn_jax.localize import choice, selection
from relearn_jax.localize.arms import Arm
from relearn_jax.localize.effects import Effects
from relearn_jax.localize.scores import LayerScores
from relearn_jax.models import checkpoint, masks, paths, transformer, weights
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites

BOTH = ("attention", "mlp")
FAMILIES = {
    "gpt2": {"model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 16},
    "gpt_neox": {
        "model_type": "gpt_neox", "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": 32, "max_position_embeddings": 16,
    },
    "llama": {
        "model_type": "llama", "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def space(decoder):
    return selection.space(decoder[0])


def build(settings):
    opened = checkpoint.open_checkpoint("random", "main", settings | {"vocab_size": 32})
    return checkpoint.describe(opened, "language-model", (), "float32")


def test_sizes_are_those_of_the_matrices(space):
    assert selection.sizes(space) == {"attention": 4 * 32 * 32, "mlp": 8 * 32 * 32}


def test_a_budget_is_filled_by_absolute_score(space):
    scores = {"attention": np.array([0.1, -0.9, 0.2]), "mlp": np.array([0.5, 0.0, np.nan])}
    size = selection.sizes(space)
    chosen = selection.select(scores, size["attention"] + 1, space)
    np.testing.assert_array_equal(chosen["attention"], [False, True, False])
    np.testing.assert_array_equal(chosen["mlp"], [True, False, False])
    assert selection.parameter_count(chosen, space) == size["attention"] + size["mlp"]
    below = selection.select(scores, size["attention"] + 1, space, overshoot=False)
    assert selection.parameter_count(below, space) == size["attention"]
    mlps = selection.select({"mlp": scores["mlp"]}, 1, space)
    assert set(mlps) == {"mlp"}


def test_what_has_score_0_is_not_chosen(space):
    scores = {"attention": np.array([0.0, -0.9, 0.0]), "mlp": np.zeros(3)}
    budget = selection.parameter_count(selection.everything(space, ("attention", "mlp")), space)
    chosen = selection.select(scores, budget, space)
    np.testing.assert_array_equal(chosen["attention"], [False, True, False])
    assert not chosen["mlp"].any()
    assert selection.parameter_count(selection.select({"mlp": np.zeros(3)}, 1, space), space) == 0


def test_scores_less_their_nulls_rank_what_stands_out(space):
    """A component that its null moves nearly as far is passed over."""
    nothing = np.full(3, np.nan)
    of_mlps = LayerScores(
        np.array([0.9, -0.5, 0.1]), nothing, nothing, np.array([0.8, 0.0, 0.05]), nothing, nothing
    )
    zeros = LayerScores(np.zeros(3), nothing, nothing, np.zeros(3), nothing, nothing)
    scores = {"noising": {"attention": zeros, "mlp": of_mlps}}
    for less_null, first in (("none", 0), ("better", 1), ("all", 1)):
        settings = config.Localize(budget=1e-6, less_null=less_null)
        made = choice.choose(scores, Effects({}, {}), space, settings, 0)
        np.testing.assert_array_equal(
            np.flatnonzero(made.units[Arm("noising", "mlps")]["mlp"]), [first]
        )


@pytest.mark.parametrize("granularity", ["component", "head", "matrix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_count_is_that_of_the_one_mask_type(family, granularity):
    """What a mask removes from a model is exactly what was counted, for random choices."""
    model = build(FAMILIES[family])
    space = selection.space(model)
    kinds = selection.kinds(space, granularity)
    params = paths.unflatten({p: np.ones(shape) for p, shape in weights.shapes(model).items()})
    whole = selection.parameter_count(selection.everything(space, BOTH), space)
    for seed, budget in enumerate((1, whole // 3, whole)):
        chosen = selection.random(space, budget, seed, kinds)
        kept = paths.flatten(masks.remove(params, selection.mask(chosen, space)))
        removed = {path: int((leaf == 0).sum()) for path, leaf in kept.items()}
        assert sum(removed.values()) == selection.parameter_count(chosen, space) >= budget
        assert not any(count for path, count in removed.items() if path not in space.shapes)
    assert sum(removed.values()) == whole


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_heads_parameters_that_head_is_silent_and_no_other(family):
    model = build(FAMILIES[family])
    space = selection.space(model)
    heads = np.zeros((2, space.heads), bool)
    heads[0, 1] = True
    params = jax.jit(partial(transformer.init, model))(jax.random.key(1))
    without = masks.remove(params, selection.mask({"heads": heads}, space))
    inputs = Inputs(np.arange(10).reshape(2, 5), np.ones((2, 5), bool))
    # In a group of llama's, head 0 loses the keys and values that it shares with head 1.
    silent = [0, 1] if family == "llama" else [1]
    says = np.ones((2, 1, 1, space.heads, 1), np.float32)
    says[0, :, :, silent] = 0
    run = jax.jit(partial(transformer.apply, model))
    found, _ = run(without, inputs)
    wanted, _ = run(params, inputs, Sites(heads=Site(mask=says)))
    plain, _ = run(params, inputs)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - plain).max() > 1e-4


def test_shared_keys_and_values_are_counted_once():
    space = selection.space(build(FAMILIES["llama"]))
    one, both = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    one[0, 0] = True
    both[0, :2] = True
    # A head is 6 wide of 24: query columns, output rows, and a group's key and value columns.
    assert selection.parameter_count({"heads": one}, space) == 4 * 24 * 6
    assert selection.parameter_count({"heads": both}, space) == 6 * 24 * 6
    every = {"heads": np.ones((2, 4), bool)}
    attention = selection.everything(space, ("attention",))
    assert selection.overlap(every, attention, space) == 1.0
    # The second head of a group costs less, so the budget holds it.
    scores = {"heads": np.array([[4.0, 3.0, 2.0, 1.0], [0.0] * 4])}
    chosen = selection.select(scores, 6 * 24 * 6, space)
    np.testing.assert_array_equal(chosen["heads"], both)


def test_budgets_that_cannot_be_are_refused(space):
    scores = {"mlp": np.arange(3.0)}
    for budget in (0, 3 * 8 * 32 * 32 + 1):
        with pytest.raises(UserError, match=r"localize\.budget"):
            selection.select(scores, budget, space)
    with pytest.raises(UserError, match="less than one unit"):
        selection.select(scores, 5, space, overshoot=False)


def test_random_baselines_follow_their_seed(space):
    budget, kinds = 2 * 8 * 32 * 32, {"mlp": (3,)}
    a, again, b = (selection.random(space, budget, seed, kinds)["mlp"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, again)
    draws = {tuple(selection.random(space, budget, s, kinds)["mlp"]) for s in range(20)}
    assert len(draws) == 3, "every pair of three layers turns up"
    assert a.sum() == b.sum() == 2
    everything = selection.everything(space, BOTH)
    assert selection.parameter_count(everything, space) == 3 * 12 * 32 * 32
    assert selection.overlap({"mlp": a}, {"mlp": a}, space) == 1.0
    assert selection.overlap({"mlp": a}, {"attention": a}, space) == 0.0
    assert math.isnan(selection.overlap({"mlp": a & False}, {"mlp": a & False}, space))


def test_areas_are_sklearns():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.3
    assert selection.roc_area(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    assert math.isnan(selection.roc_area(scores, np.ones(40, bool)))
