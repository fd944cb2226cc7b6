"""Recovery under attack: halves rotate, voids do not count, rates are clustered by fact."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.evaluation import recovery
from relearn_jax.evaluation.recovery import Curves

FACTS = 4


def assembled(right, retained_right=True):
    """Two learning rates x one seed x two halves; prompts 0-3 ask for facts, 4 for a kept one."""
    shown = np.zeros((4, 5), bool)
    shown[[0, 2], 0:2] = True
    shown[[1, 3], 2:4] = True
    facts = np.eye(5, FACTS, dtype=bool)
    retained = np.arange(5) == 4
    answers = np.zeros((4, 1, 5), bool)
    answers[:, 0, :4] = right
    answers[:, 0, 4] = retained_right
    return recovery.assembled(answers, shown, facts, retained, 2)


def test_every_fact_is_scored_where_it_is_held_out():
    right = np.array([[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]], bool)
    curves = assembled(right)
    # At the first rate facts 2 and 3 are held out by attacker 0, facts 0 and 1 by attacker 1.
    np.testing.assert_array_equal(curves.held_out[:, 0], [[0, 1, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(curves.shown[:, 0], [1, 1])
    np.testing.assert_array_equal(curves.retained[:, 0], [1, 1])


def curves(held_out, shown, retained):
    held = np.array(held_out, float)[:, None, None] * np.ones((1, 1, FACTS))
    return Curves(held, np.array(shown, float)[:, None], np.array(retained, float)[:, None])


def test_the_best_attack_fits_its_half_and_keeps_the_rest():
    found = recovery.best(curves([0.2, 0.6, 0.9], [1, 1, 1], [1, 0.95, 0.3]), 0.9, 0.9)
    assert (found.rate, found.void, found.accuracy) == (1, False, pytest.approx(0.6))
    found = recovery.best(curves([0.2, 0.6], [1, 0.5], [1, 1]), 0.9, 0.9)
    assert found.rate == 0


def test_an_attack_that_fits_nothing_is_void():
    found = recovery.best(curves([0.8, 0.9], [0.4, 0.5], [1, 1]), 0.9, 0.9)
    assert found.void


def test_rates_are_0_for_the_floor_and_1_for_the_original():
    rng = np.random.default_rng(0)
    original, floor = np.ones(50), rng.random(50) < 0.3
    assert recovery.rate(floor, original, floor).value == 0
    same = recovery.rate(original, original, floor)
    assert (same.value, same.low, same.high) == (1, 1, 1)


def test_the_interval_covers_the_true_rate():
    """Of 200 draws of 60 facts, about 95 % of the intervals hold the rate that drew them."""
    rng = np.random.default_rng(1)
    original, floor, hits = np.ones(60), np.full(60, 1 / 3), 0
    for draw in range(200):
        attacked = rng.random(60) < 2 / 3
        found = recovery.rate(attacked, original, floor, seed=draw)
        hits += found.low <= 0.5 <= found.high
    assert 180 <= hits <= 198


def test_without_a_gap_there_is_no_rate():
    same = np.full(5, 0.4)
    assert np.isnan(recovery.rate(np.ones(5), same, same).value)


def test_steps_to_a_share():
    accuracy = np.array([0.1, 0.5, 0.4, 0.9])
    assert recovery.steps_to(accuracy, (5, 10, 20, 40), 0.5) == 10
    assert recovery.steps_to(accuracy, (5, 10, 20, 40), 0.95) is None
