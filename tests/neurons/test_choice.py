"""Which neurons are pruned, and their controls."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.config import Prune
from relearn_jax.errors import UserError
from relearn_jax.neurons import choice

S, D = 7, 768


@pytest.fixture
def scores():
    return np.random.default_rng(0).permutation(S * D).reshape(S, D).astype(float)


def test_half_of_all_neurons_from_those_that_may_be_pruned(scores):
    chosen = choice.select(scores, Prune())
    gone = chosen.pruned
    assert chosen.requested == gone.sum() == 2688
    assert not gone[0].any()
    assert scores[gone].min() > scores[1:][~gone[1:]].max()


def test_never_more_than_there_are_to_prune(scores):
    chosen = choice.select(scores, Prune(fraction=1.0))
    assert chosen.pruned.sum() == 6 * D
    assert not chosen.pruned[0].any()
    assert choice.select(scores, Prune(fraction=1.0), "mlp").pruned.all()


def test_count_overrides_fraction_and_fractions_do_not_lose_a_neuron_to_rounding(scores):
    assert choice.select(scores, Prune(count=17)).pruned.sum() == 17
    assert choice.select(scores[:2, :50], Prune(fraction=0.29)).requested == 29


def test_per_layer_takes_the_best_of_each_layer_alike(scores):
    gone = choice.select(scores, Prune(scope="per_layer")).pruned
    assert gone.sum(1).tolist() == [0] + [448] * 6
    for row in range(1, S):
        assert scores[row][gone[row]].min() > scores[row][~gone[row]].max()


def test_faithful_reproduces_the_published_wrap_around():
    """Protocol 4.3: 3,000 nominal ids, of them 333 in state 0, prune 2,757 distinct gains."""
    nominal = [333, 363, 345, 400, 452, 543, 564]
    scores = np.random.default_rng(2).random((S, D))
    for row, number in enumerate(nominal[1:], start=1):
        scores[row, :number] += 1
    # Of the channels of state 0, 243 are pruned in the last row anyhow.
    scores[0, 564 - 243 : 564 - 243 + 333] += 1
    chosen = choice.select(scores, Prune(count=3000, embedding_state="faithful"))
    gone = chosen.pruned
    assert (chosen.requested, gone.sum()) == (3000, 2757)
    assert gone.sum(1).tolist() == [0, 363, 345, 400, 452, 543, 654]
    np.testing.assert_array_equal(np.flatnonzero(gone[-1]), np.arange(654))
    half = choice.select(scores, Prune(embedding_state="faithful"))
    assert half.requested == 2688
    assert half.pruned.sum() <= 2688


def test_faithful_per_layer_gives_state_0_its_share(scores):
    chosen = choice.select(scores, Prune(scope="per_layer", embedding_state="faithful"))
    gone = chosen.pruned
    assert chosen.requested == 2688
    assert gone.sum(1)[:6].tolist() == [0] + [384] * 5
    assert gone[6].sum() == gone.sum() - 5 * 384 > 384


def test_feed_forward_neurons_have_no_embedding_state(scores):
    chosen = choice.select(scores, Prune(embedding_state="faithful"), "mlp")
    assert chosen.pruned.sum() == chosen.requested == 2688
    assert chosen.pruned[0].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Prune(fraction=0.0), r"\(0, 1\]"),
        (Prune(fraction=1.2), r"\(0, 1\]"),
        (Prune(fraction=-0.1), r"\(0, 1\]"),
        (Prune(fraction=float("nan")), r"\(0, 1\]"),
        (Prune(fraction=1e-5), "selects nothing"),
        (Prune(count=0), "between 1 and 4608"),
        (Prune(count=4609), "between 1 and 4608"),
        (Prune(count=5, scope="per_layer"), "nothing is pruned"),
    ],
)
def test_what_cannot_be_pruned_is_refused(scores, settings, message):
    with pytest.raises(UserError, match=message):
        choice.select(scores, settings)


def test_scores_of_a_concept_without_words_prune_nothing(scores):
    with pytest.raises(UserError, match="no neuron has a score"):
        choice.select(np.full_like(scores, np.nan), Prune())


def test_random_control_is_uniform_over_what_may_be_pruned(scores):
    concept = choice.select(scores, Prune(count=900)).pruned
    total = np.zeros((S, D))
    for seed in range(40):
        control = choice.random(concept, "states", seed)
        assert control.sum() == 900
        total += control
    assert not total[0].any()
    # 768 * 40 * 900 / 4608 = 6000 in each row, with a standard deviation of about 65.
    np.testing.assert_allclose(total[1:].sum(1), 6000, atol=300)
    one, again, two = (choice.random(concept, "states", seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != two).any()


def test_layer_matched_control_has_the_concepts_counts_by_layer(scores):
    scores = scores + 500 * np.arange(S)[:, None]
    concept = choice.select(scores, Prune(count=1500)).pruned
    control = choice.layer_matched(concept, "states", seed=4)
    np.testing.assert_array_equal(control.sum(1), concept.sum(1))
    assert (control != concept).any()


@pytest.mark.parametrize("scope", ["pooled", "per_layer"])
def test_bottom_control_is_the_other_end_of_the_ranking(scores, scope):
    concept = choice.select(scores, Prune(count=1500, scope=scope)).pruned
    gone = choice.bottom(concept, "states", scores, scope)
    assert gone.sum() == 1500
    assert not gone[0].any()
    assert not (gone & concept).any()
    if scope == "pooled":
        assert scores[gone].max() < scores[1:][~gone[1:]].min()
    else:
        assert gone.sum(1).tolist() == [0] + [250] * 6


def test_controls_match_the_effective_count_of_a_faithful_mask(scores):
    chosen = choice.select(scores, Prune(count=3000, embedding_state="faithful"))
    concept = chosen.pruned
    assert concept.sum() < 3000
    controls = (
        choice.random(concept, "states", 0),
        choice.layer_matched(concept, "states", 0),
        choice.bottom(concept, "states", scores),
    )
    assert [control.sum() for control in controls] == [concept.sum()] * 3
