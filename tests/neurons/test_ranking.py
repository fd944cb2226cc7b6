from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from relearn_jax import config
from relearn_jax.errors import UserError
from relearn_jax.neurons import ranking


def test_rest_is_the_distance_between_the_two_class_means(words, moments_of):
    x, member = words
    scores = ranking.scores_all(moments_of(x, member), "probeless", "rest")
    for label in (0, 1, 3):
        inside = member[:, label]
        expected = np.abs(x[inside].mean(0) - x[~inside].mean(0))
        np.testing.assert_allclose(scores[label], expected, rtol=1e-10)


def test_rest_takes_words_with_several_labels_once(words, moments_of):
    x, member = words
    member = member.copy()
    member[::3, 1] = True
    inside = member[:, 1]
    expected = np.abs(x[inside].mean(0) - x[~inside].mean(0))
    np.testing.assert_allclose(ranking.probeless(moments_of(x, member), 1), expected, rtol=1e-10)


def test_pairwise_sums_over_the_other_labels_that_have_words(words, moments_of):
    x, member = words
    moments = moments_of(x, member)
    scores = ranking.scores_all(moments, "probeless", "pairwise")
    q = {y: x[member[:, y]].mean(0) for y in (0, 1, 3)}
    for y in q:
        expected = sum(np.abs(q[y] - q[other]) for other in q if other != y)
        np.testing.assert_allclose(scores[y], expected, rtol=1e-10)
        np.testing.assert_array_equal(scores[y], ranking.probeless(moments, y, "pairwise"))
    np.testing.assert_allclose(ranking.probeless_all(moments), sum(scores[y] for y in q))


def test_two_labels_make_both_contrasts_equal(words, moments_of):
    x, member = words
    two = np.stack([member[:, 0], ~member[:, 0]], axis=1)
    moments = moments_of(x, two)
    rest = ranking.scores_all(moments, "probeless", "rest")
    np.testing.assert_allclose(rest, ranking.scores_all(moments, "probeless", "pairwise"))
    np.testing.assert_allclose(rest[0], rest[1])


def test_mean_difference_is_cohens_d(words, moments_of):
    x, member = words
    scores = ranking.scores_all(moments_of(x, member), "mean_difference")
    for label in (0, 1, 3):
        a, b = x[member[:, label]], x[~member[:, label]]
        variance = ((len(a) - 1) * a.var(0, ddof=1) + (len(b) - 1) * b.var(0, ddof=1)) / (
            len(a) + len(b) - 2
        )
        expected = np.abs(a.mean(0) - b.mean(0)) / np.sqrt(variance)
        np.testing.assert_allclose(scores[label], expected, rtol=1e-9)


def test_mean_difference_ignores_scale_and_offset_and_probeless_does_not(words, moments_of):
    x, member = words
    before, after = moments_of(x, member), moments_of(1e-3 * x + 5, member)
    np.testing.assert_allclose(
        ranking.mean_difference(after, 1), ranking.mean_difference(before, 1), rtol=1e-6
    )
    ratio = ranking.probeless(after, 1) / ranking.probeless(before, 1)
    np.testing.assert_allclose(ratio, 1e-3, rtol=1e-6)


@pytest.mark.parametrize("rounding", [0.0, 6e-8])
def test_a_neuron_that_never_varies_scores_zero(words, moments_of, rounding):
    """A pruned neuron is its bias for every word, up to the rounding of the mean of sub-words."""
    x, member = words
    x = x.copy()
    x[:, 1, 2] = 0.7 * (1 + rounding * np.random.default_rng(0).integers(-1, 2, len(x)))
    assert ranking.mean_difference(moments_of(x, member), 1)[1, 2] == 0


def test_float32_moments_give_the_same_mean_difference(words, moments_of):
    x, member = words
    moments = moments_of(x, member)
    narrow = type(moments)(*(part.astype(np.float32) for part in moments))
    exact, rounded = (ranking.scores_all(m, "mean_difference") for m in (moments, narrow))
    np.testing.assert_allclose(rounded, exact, rtol=1e-4, atol=1e-5)


def test_labels_that_cannot_be_contrasted_are_nan_or_refused(words, moments_of):
    x, member = words
    moments = moments_of(x, member)
    assert np.isnan(ranking.scores_all(moments, "probeless", "rest")[2]).all()
    assert np.isnan(ranking.scores_all(moments, "probeless", "pairwise")[2]).all()
    assert np.isnan(ranking.scores_all(moments, "mean_difference")[2]).all()
    for score in (ranking.probeless, ranking.mean_difference):
        with pytest.raises(UserError, match="no words"):
            score(moments, 2)
        with pytest.raises(UserError, match="covers all 400 words"):
            score(moments_of(x, np.ones((len(x), 1), bool)), 0)


def test_order_descends_keeps_ties_in_place_and_puts_nan_last():
    scores = np.array([[1.0, 3.0, np.nan], [3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(ranking.order(scores), [1, 3, 4, 0, 5, 2])
    tied = np.random.default_rng(0).integers(0, 5, (20, 50))
    ids = ranking.order(tied)
    assert (np.diff(ids)[np.diff(tied.ravel()[ids]) == 0] > 0).all()


def test_ranks_invert_the_order_for_every_label(words, moments_of):
    scores = ranking.scores_all(moments_of(*words), "probeless", "rest")
    ids, places = ranking.order(scores), ranking.ranks(scores)
    assert ids.shape == (4, 24)
    assert places.shape == (4, 3, 8)
    for label in range(4):
        np.testing.assert_array_equal(places[label].ravel()[ids[label]], np.arange(24))
        np.testing.assert_array_equal(ids[label], ranking.order(scores[label]))


def test_probe_scores_are_the_size_of_the_weights(words, moments_of):
    weights = np.random.default_rng(0).standard_normal((24, 4))
    scores = ranking.scores_all(moments_of(*words), "linear_probe", weights=weights)
    assert scores.shape == (4, 3, 8)
    np.testing.assert_array_equal(scores[1].ravel(), np.abs(weights[:, 1]))


def test_a_config_may_name_every_ranking_and_contrast():
    assert set(get_args(config.Ranking)) == set(ranking.RANKINGS)
    assert set(get_args(config.Contrast)) == set(ranking.CONTRASTS)
