"""Laws of the spread over seeds."""

import numpy as np
import pytest
from scipy import stats

from relearn_jax.evaluation.seeds import half_width


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_interval_is_students(count):
    values = np.random.default_rng(0).normal(3, 2, count)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert values.mean() - half_width(values) == pytest.approx(low)
    assert values.mean() + half_width(values) == pytest.approx(high)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_one_seed_has_no_interval(values):
    assert np.isnan(half_width(values))
