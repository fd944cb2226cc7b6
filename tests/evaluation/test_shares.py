"""Shares beyond a floor: ends, intervals, and models that differ."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.evaluation import shares
from relearn_jax.evaluation.shares import Items, share


def test_shares_are_0_for_the_floor_and_1_for_the_original():
    rng = np.random.default_rng(0)
    original, floor = np.ones(50), rng.random(50) < 0.3
    assert share([Items(floor, original, floor)]).value == 0
    assert share([Items(original, original, floor)]) == (1, 1, 1)


def test_the_interval_covers_the_true_share():
    """Of 200 draws of 60 facts, about 95 % of the intervals hold the share that drew them."""
    rng = np.random.default_rng(1)
    original, floor, hits = np.ones(60), np.full(60, 1 / 3), 0
    for draw in range(200):
        found = share([Items(rng.random(60) < 2 / 3, original, floor)], seed=draw)
        hits += found.low <= 0.5 <= found.high
    assert 180 <= hits <= 198


def test_models_that_differ_widen_the_interval():
    """The mean over facts is the same; between models all or nothing comes back."""
    half, ones, zeros = np.arange(40) % 2, np.ones(40), np.zeros(40)
    alike = share([Items(half, ones, zeros)] * 4)
    apart = share([Items(x, ones, zeros) for x in (ones, zeros, ones, zeros)])
    assert alike.value == apart.value == pytest.approx(0.5)
    assert apart.high - apart.low > 3 * (alike.high - alike.low)


def test_without_a_gap_there_is_no_share():
    same = np.full(5, 0.4)
    assert np.isnan(share([Items(np.ones(5), same, same)])).all()
    assert np.isnan(share([])).all()


def test_prompts_of_an_item_are_averaged():
    found = shares.by_item(np.array([1, 0, 1, 1]), np.array([7, 7, 3, 9]))
    np.testing.assert_array_equal(found, [1, 0.5, 1])
