"""Masks under a budget: exact counts, published overshoot, seeded baselines, scores of scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from relearn_jax.errors import UserError
from relearn_jax.localize import selection
from relearn_jax.localize.selection import Components
from relearn_jax.models import weights
from relearn_jax.neurons import masks

BOTH = ("attention", "mlp")


@pytest.fixture(scope="module")
def shapes(decoder):
    return weights.shapes(decoder[0])


def test_sizes_are_those_of_the_matrices(shapes):
    assert selection.sizes(shapes) == {"attention": 4 * 32 * 32, "mlp": 8 * 32 * 32}


def test_a_budget_is_filled_by_absolute_score(shapes):
    scores = {"attention": np.array([0.1, -0.9, 0.2]), "mlp": np.array([0.5, 0.0, np.nan])}
    size = selection.sizes(shapes)
    chosen = selection.select(scores, size["attention"] + 1, shapes)
    np.testing.assert_array_equal(chosen.attention, [False, True, False])
    np.testing.assert_array_equal(chosen.mlp, [True, False, False])
    assert selection.parameter_count(chosen, shapes) == size["attention"] + size["mlp"]
    below = selection.select(scores, size["attention"] + 1, shapes, overshoot=False)
    assert selection.parameter_count(below, shapes) == size["attention"]
    mlps = selection.select({"mlp": scores["mlp"]}, 1, shapes)
    assert not mlps.attention.any()


def test_the_count_is_that_of_the_one_mask_type(decoder, shapes):
    model, params = decoder
    chosen = Components(np.array([True, False, False]), np.array([True, False, True]))
    times = weights.unflatten(selection.multipliers(chosen, shapes))
    kept = weights.flatten(masks.apply(params, times))
    left = sum(int(np.count_nonzero(kept[path])) for path in kept)
    assert left == selection.parameter_count(chosen, shapes)
    assert not np.asarray(kept["embed/word/embedding"]).any()
    assert np.asarray(kept["blocks/up/kernel"][0]).all()
    assert not np.asarray(kept["blocks/up/kernel"][1]).any()
    assert model.config.layers == 3


def test_budgets_that_cannot_be_are_refused(shapes):
    scores = {"mlp": np.arange(3.0)}
    for budget in (0, 3 * 8 * 32 * 32 + 1):
        with pytest.raises(UserError, match=r"localize\.budget"):
            selection.select(scores, budget, shapes)
    with pytest.raises(UserError, match="less than one component"):
        selection.select(scores, 5, shapes, overshoot=False)


def test_random_baselines_follow_their_seed(shapes):
    budget = 2 * 8 * 32 * 32
    a, again, b = (selection.random(shapes, budget, seed, ("mlp",)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.mlp, again.mlp)
    draws = {tuple(selection.random(shapes, budget, s, ("mlp",)).mlp) for s in range(20)}
    assert len(draws) == 3, "every pair of three layers turns up"
    assert a.mlp.sum() == b.mlp.sum() == 2
    everything = selection.everything(shapes, BOTH)
    assert selection.parameter_count(everything, shapes) == 3 * 12 * 32 * 32
    assert selection.overlap(a, a) == 1.0
    assert selection.overlap(a, selection.everything(shapes, ("attention",))) == 0.0


def test_areas_are_sklearns():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.3
    assert selection.roc_area(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    assert math.isnan(selection.roc_area(scores, np.ones(40, bool)))
    chosen = np.array([True, True, False, False])
    truth = np.array([True, False, True, True])
    assert selection.precision_recall(chosen, truth) == (0.5, pytest.approx(1 / 3))
