"""Recovery under attack: halves rotate, and voids do not count."""

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


def test_steps_to_a_share():
    accuracy = np.array([0.1, 0.5, 0.4, 0.9])
    assert recovery.steps_to(accuracy, (5, 10, 20, 40), 0.5) == 10
    assert recovery.steps_to(accuracy, (5, 10, 20, 40), 0.95) is None


def test_areas_are_those_of_their_triangles():
    points = (9, 99)
    assert recovery.area(np.ones(2), points, 1.0) == pytest.approx(1)
    assert recovery.area(np.zeros(2), points, 0.0) == 0
    # 1, 10 and 100 are evenly spaced in the logarithm of 1 + steps.
    assert recovery.area(np.array([1.0, 1.0]), points, 0.0) == pytest.approx(0.75)
