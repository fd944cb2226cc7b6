from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax import config
from relearn_jax.neurons import tokens


def top_words(scores, counts, k, min_score, min_count):
    """One neuron's top words in plain Python, as protocol 6.1 tells it."""
    usable = [i for i in range(len(scores)) if counts[i] >= min_count]
    highest = max(scores[i] for i in usable)
    if not highest > 0:
        return []
    share = [(i, np.float32(scores[i]) / np.float32(highest)) for i in usable]
    return [x for x in sorted(share, key=lambda x: -x[1]) if x[1] > min_score][:k]


@pytest.fixture
def scored():
    """60 types, 3 x 11 neurons; coarse values, so that ties are common."""
    rng = np.random.default_rng(5)
    score = (rng.integers(0, 8, (60, 3, 11)) / 8).astype(np.float32)
    score[:, 0, 4] = 0
    return score, rng.integers(1, 6, 60)


@pytest.mark.parametrize(
    ("min_count", "k", "min_score"),
    [(1, 5, 0.1), (3, 5, 0.1), (1, 1, 0.1), (1, 60, 0.1), (1, 70, 0.5)],
)
def test_top_tokens_are_those_of_a_sort(scored, min_count, k, min_score):
    score, count = scored
    settings = config.Tracking(top_k=k, min_count=min_count, min_score=min_score)
    ids, shares = tokens.top_tokens(score, count, settings)
    assert ids.shape == shares.shape == (33, k)
    for neuron, column in enumerate(score.reshape(60, 33).T):
        expected = top_words(column, count, k, min_score, min_count)
        found = ids[neuron] >= 0
        np.testing.assert_array_equal(ids[neuron][found], [i for i, _ in expected])
        np.testing.assert_allclose(shares[neuron][found], [s for _, s in expected], rtol=1e-6)
        assert not shares[neuron][~found].any()


def test_equal_scores_keep_first_occurrence_order():
    ids, _ = tokens.top_tokens(np.ones((9, 1, 2), np.float32), np.ones(9), config.Tracking())
    np.testing.assert_array_equal(ids, [[0, 1, 2, 3, 4]] * 2)


def test_neurons_are_independent_of_the_chunks_they_fall_into(scored, monkeypatch):
    score, count = scored
    whole = tokens.top_tokens(score, count, config.Tracking())
    monkeypatch.setattr(tokens, "CHUNK", 60 * 10)
    for given in (score, jnp.asarray(score)):
        for part, expected in zip(
            tokens.top_tokens(given, count, config.Tracking()), whole, strict=True
        ):
            np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_neuron_that_never_varies_has_no_tokens(scored, value):
    score, count = scored
    score[:, 2, 3] = value
    ids, shares = tokens.top_tokens(score, count, config.Tracking())
    assert (ids[2 * 11 + 3] == -1).all()
    assert not shares[2 * 11 + 3].any()
    assert (ids[2 * 11 + 4] >= 0).all()


def test_negative_scores_never_count_and_the_first_score_is_one():
    score = np.array([-9.0, 0.5, -0.1, 2.0])[:, None, None]
    ids, shares = tokens.top_tokens(score, np.ones(4), config.Tracking(signed=True))
    np.testing.assert_array_equal(ids[0], [3, 1, -1, -1, -1])
    np.testing.assert_allclose(shares[0], [1, 0.25, 0, 0, 0])
    ids, _ = tokens.top_tokens(-np.ones((4, 1, 1)), np.ones(4), config.Tracking(signed=True))
    assert (ids == -1).all()


def test_a_rare_word_does_not_set_the_scale():
    score = np.array([10.0, 1.0, 0.5])[:, None, None]
    ids, shares = tokens.top_tokens(score, np.array([1, 4, 4]), config.Tracking(min_count=2))
    np.testing.assert_array_equal(ids[0], [1, 2, -1, -1, -1])
    np.testing.assert_allclose(shares[0, :2], [1, 0.5])


def test_null_means_no_alphabetic_token():
    types = ("Paris", "3-4", "x86", "\x99", "élan")
    ids = np.array([[0, 1], [1, 2], [3, -1], [-1, -1], [2, 4]])
    np.testing.assert_array_equal(tokens.is_null(ids, types), [False, True, True, True, False])


def test_jaccard_and_sameness_are_those_of_sets():
    rng = np.random.default_rng(6)
    draw = [np.stack([rng.permutation(9)[:5] for _ in range(50)]) for _ in range(2)]
    first, second = (np.where(rng.random(x.shape) < 0.3, -1, x) for x in draw)
    second[0] = first[0][::-1]
    first[1] = second[1] = -1
    first[2] = -1
    jaccard, same = tokens.jaccard(first, second), tokens.same_tokens(first, second)
    for n in range(50):
        a, b = set(first[n]) - {-1}, set(second[n]) - {-1}
        assert same[n] == (a == b)
        if a | b:
            assert jaccard[n] == pytest.approx(len(a & b) / len(a | b))
        else:
            assert np.isnan(jaccard[n])


def test_target_share_counts_types_that_occur_with_the_label():
    kind = np.array([0, 1, 1, 2, 3])
    member = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [0, 1]], bool)
    occurs = tokens.types_with_labels(kind, member, types=5)
    np.testing.assert_array_equal(occurs[:, 0], [True, True, False, False, False])
    ids = np.array([[0, 1, 2, 3], [2, 3, -1, -1], [1, -1, -1, -1], [-1, -1, -1, -1]])
    np.testing.assert_array_equal(tokens.target_share(ids, occurs[:, 0]), [0.5, 0, 1, np.nan])
