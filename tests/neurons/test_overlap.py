from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from relearn_jax.neurons import overlap, ranking

ALLOWED = np.ones((4, 10), bool)
ALLOWED[0] = False


def ranks_of(seed: int) -> np.ndarray:
    return ranking.ranks(np.random.default_rng(seed).random(ALLOWED.shape))


def test_the_first_neurons_are_the_lowest_ranks_of_the_allowed_ones():
    ranks = ranks_of(0)
    chosen = overlap.best(ranks, 7, ALLOWED)
    assert chosen.sum() == 7
    assert not (chosen & ~ALLOWED).any()
    assert ranks[chosen].max() < ranks[ALLOWED & ~chosen].min()


def test_a_ranking_shares_all_with_itself_and_nothing_with_its_reverse():
    ranks = ranks_of(0)
    assert overlap.shared(ranks, ranks, 12, ALLOWED) == 12
    assert overlap.shared(ranks, -ranks, 12, ALLOWED) == 0
    assert overlap.shared(ranks, -ranks, 30, ALLOWED) == 30


def test_overlap_is_symmetric_and_does_not_depend_on_how_channels_are_numbered():
    a, b = ranks_of(0), ranks_of(1)
    shuffled = np.random.default_rng(2).permutation(a.shape[1])
    number = overlap.shared(a, b, 12, ALLOWED)
    assert number == overlap.shared(b, a, 12, ALLOWED)
    assert number == overlap.shared(a[:, shuffled], b[:, shuffled], 12, ALLOWED[:, shuffled])


@pytest.mark.parametrize("sizes", [(0, 5, 9), (5, 9, 9), (12, 12, 30), (1344, 1000, 2688)])
def test_chance_is_the_hypergeometric_distribution(sizes):
    first, second, candidates = sizes
    law = hypergeom(candidates, first, second)
    found = overlap.chance(first, second, candidates)
    assert found.expected == pytest.approx(law.mean())
    assert (found.low, found.high) == (law.ppf(0.025), law.ppf(0.975))


def test_random_rankings_lie_within_the_range_of_chance_nineteen_times_of_twenty():
    law = overlap.chance(12, 12, int(ALLOWED.sum()))
    numbers = [overlap.shared(ranks_of(i), ranks_of(i + 1), 12, ALLOWED) for i in range(0, 800, 2)]
    assert np.mean(numbers) == pytest.approx(law.expected, abs=0.25)
    assert np.mean([law.low <= n <= law.high for n in numbers]) >= 0.94


def test_chance_by_layer_is_that_of_draws_that_keep_the_numbers_of_each_layer():
    first, second, layers = np.array([0, 6, 3]), np.array([2, 5, 5]), np.array([10, 10, 10])
    rng = np.random.default_rng(0)
    draws = sum(
        rng.hypergeometric(a, n - a, b, 20000)
        for a, b, n in zip(first, second, layers, strict=True)
    )
    law = overlap.chance_by_layer(first, second, layers)
    assert law.expected == pytest.approx(draws.mean(), abs=0.03)
    assert (law.low, law.high) == tuple(np.quantile(draws, (0.025, 0.975)))
    assert law.expected > overlap.chance(9, 12, 30).expected


def test_rankings_that_only_prefer_the_same_layers_are_at_chance_by_layer():
    rng = np.random.default_rng(3)
    late = 3 * np.arange(8)[:, None]
    ranks = ranking.ranks(rng.random((2, 8, 200)) * 8 + late)
    (row,) = overlap.pairs(ranks, ("LOC", "PER"), 400, np.ones((8, 200), bool))
    assert row["shared"] > row["high"]
    assert row["low_layers"] <= row["shared"] <= row["high_layers"]


def test_every_pair_of_concepts_has_one_row():
    ranks = np.stack([ranks_of(i) for i in range(3)])
    rows = list(overlap.pairs(ranks, ("LOC", "PER", "ORG"), 12, ALLOWED))
    assert [(r["concept_a"], r["concept_b"]) for r in rows] == [
        ("LOC", "PER"), ("LOC", "ORG"), ("PER", "ORG")
    ]  # fmt: skip
    assert rows[2]["shared"] == overlap.shared(ranks[1], ranks[2], 12, ALLOWED)
    assert {r["top"] for r in rows} == {12}


def test_neurons_pruned_for_a_concept_were_all_its_own_and_count_for_what_they_rank_high_in_now():
    base = np.stack([ranks_of(0), ranks_of(1)])
    pruned = overlap.best(base[0], 12, ALLOWED)
    now = np.stack([base[1], base[0]])
    own, other = overlap.takeover(base, now, ("LOC", "PER"), pruned, 12, ALLOWED)
    common = overlap.shared(base[0], base[1], 12, ALLOWED)
    assert (own["concept"], own["was"], own["neurons"]) == ("LOC", 12, common)
    assert (other["concept"], other["was"], other["neurons"]) == ("PER", common, 12)
    assert own["expected"] == overlap.chance(12, 12, 30).expected


def test_more_neurons_than_there_are_is_refused():
    with pytest.raises(ValueError, match="first 31 of 30"):
        overlap.shared(ranks_of(0), ranks_of(1), 31, ALLOWED)
    with pytest.raises(ValueError, match="30 candidates"):
        overlap.chance(31, 5, 30)
