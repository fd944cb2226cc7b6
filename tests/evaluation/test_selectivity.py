"""Selectivity of a removal: losses, intervals and the verdict."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from relearn_jax.evaluation import entities, selectivity
from relearn_jax.evaluation.selectivity import Counts, Damage

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def predicted():
    """Gold tags of 80 sentences, and those of two models."""
    rng = np.random.default_rng(0)
    gold = [rng.integers(0, len(TAGS), rng.integers(3, 12)) for _ in range(80)]

    def model(right):
        return [np.where(rng.random(len(g)) < right, g, rng.integers(0, 5, len(g))) for g in gold]

    return gold, (model(0.9), model(0.5))


def counts_of(gold, models):
    found = np.stack([entities.counts(gold, labels, TAGS) for labels in models])
    words = [
        [[(g == 0).sum(), ((g == 0) & (p == 0)).sum()] for g, p in zip(gold, labels, strict=True)]
        for labels in models
    ]
    return Counts(found, np.array(words))


def test_scores_are_those_of_the_evaluation(predicted):
    gold, models = predicted
    scores = selectivity.scores(counts_of(gold, models))
    for labels, row in zip(models, scores, strict=True):
        records = {r["type"]: r for r in entities.score(gold, labels, TAGS)}
        assert row[:2] == pytest.approx([records["LOC"]["f1"], records["PER"]["f1"]])
        assert row[selectivity.OUTSIDE] == pytest.approx(records["all"]["outside"])
        assert row[selectivity.ALL] == pytest.approx(records["all"]["f1"])


def test_empty_sentences_count_nothing(predicted):
    gold, (labels, _) = predicted
    empty = np.array([], int)
    with_empty = entities.counts([empty, *gold, empty], [empty, *labels, empty], TAGS)
    np.testing.assert_array_equal(with_empty[1:-1], entities.counts(gold, labels, TAGS))
    assert not with_empty[[0, -1]].any()


def test_the_interval_over_sentences_is_that_of_scipy(predicted):
    counts = counts_of(*predicted)
    draws = selectivity.resampled(counts, 4000, 1)
    low, high = selectivity.interval(draws)

    def f1(rows):
        return entities.f1(counts.entities[0, rows, 0].sum(-2))

    theirs = stats.bootstrap(
        (np.arange(80),), lambda rows, axis: f1(rows), n_resamples=4000, method="percentile",
        rng=np.random.default_rng(2), batch=100,
    ).confidence_interval  # fmt: skip
    assert low[0, 0] == pytest.approx(theirs.low, abs=0.01)
    assert high[0, 0] == pytest.approx(theirs.high, abs=0.01)


def test_all_models_are_scored_on_the_same_draws(predicted):
    gold, (labels, _) = predicted
    draws = selectivity.resampled(counts_of(gold, (labels, labels)), 50, 0)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    assert draws[:, 0].std(0).min() > 0


def test_losses_are_relative_to_the_base_model():
    base = np.array([0.8, 0.5, 0.4, 0.99, 0.6])
    lost = selectivity.losses(np.array([[0.2, 0.5, 0.3, 0.99, 0.4]]), base, 0, (1, 2))
    assert lost.target == pytest.approx(0.75)
    assert lost.others == pytest.approx((0 + 0.25) / 2)
    assert lost.selectivity == pytest.approx(0.625)
    assert np.isnan(selectivity.losses(base, np.array([0, 0.5, 0.4, 0.99, 0.5]), 0, (1,)).target)


def test_others_are_learned_types_or_else_the_words_outside():
    outside = (selectivity.OUTSIDE,)
    assert selectivity.others(np.array([0.8, 0.5, 0.05, 0.9, 0.7]), 0) == (1,)
    assert selectivity.others(np.array([0.8, 0.9, 0.8]), 0) == outside, "a single type"
    assert selectivity.others(np.array([0.8, 0.05, 0.9, 0.7]), 0) == outside, "none is learned"
    assert selectivity.others(np.array([0.8, 0.5, 0.9, 0.7]), selectivity.ALL) == outside


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "removed"),
        ({"target": 0.7}, "partial"),
        ({"target": 0.3}, "slight"),
        ({"base": 0.02}, "unlearned"),
        ({"base": np.nan}, "unlearned"),
        ({"others": 0.6}, "collapsed"),
        ({"most_frequent": 0.995}, "collapsed"),
        ({"control": 0.8}, "unspecific"),
        ({"target": 0.5, "others": 0.5}, "unspecific"),
        ({"control": np.nan}, "removed"),
        ({"others": np.nan}, "removed"),
    ],
)
def test_the_verdict_on_the_damage(changes, kind):
    damage = Damage(0.8, 0.95, 0.1, 0.05, 0.9, 0.9)._replace(**changes)
    assert selectivity.judge(damage) == kind
    assert selectivity.SAID[kind]
