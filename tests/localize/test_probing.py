"""Probes against scikit-learn, and the rule that picks layers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from relearn_jax.localize import probing


@pytest.mark.parametrize(("examples", "width"), [(120, 8), (40, 64)])
@pytest.mark.parametrize("strength", [1.0, 0.05])
def test_all_probes_together_are_sklearns_one_by_one(examples, width, strength):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, examples)
    x = (
        rng.normal(size=(3, examples, width))
        + np.array([0, 0.5, 2])[:, None, None] * (rng.normal(size=(3, width))[y])
    )
    found = probing.fit(x, y, 3, strength)
    for s in range(3):
        oracle = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(x[s], y)
        logits = x[s] @ np.asarray(found.weights[s]) + np.asarray(found.bias[s])
        wanted = oracle.decision_function(x[s])
        centred = [z - z.mean(-1, keepdims=True) for z in (logits, wanted)]
        np.testing.assert_allclose(*centred, atol=5e-3)
        right = probing.accuracy(found, x, y)[s]
        assert right == pytest.approx(oracle.score(x[s], y), abs=1 / examples)
    assert probing.accuracy(found, x, y)[2] > 0.9


def test_gains_within_the_noise_do_not_widen_the_window():
    gains = np.array([0.0, 0.4, 0.0, 0.03])
    assert probing.window(gains) == (1, 3)
    assert probing.window(gains, noise=0.03) == (1, 1)


@pytest.mark.parametrize(
    ("gains", "wanted"),
    [
        ([0, 0.5, 0.4, 0.01, 0], (1, 2)),
        ([0.9, 0, 0, 0], (0, 0)),
        ([0.3, 0, 0.3, 0], (0, 2)),
        ([-0.2, 0.4, -0.1, 0.0], (1, 1)),
        ([0.0, 0.0], (0, -1)),
    ],
)
def test_the_window_is_the_shortest_with_nearly_all_gain(gains, wanted):
    assert probing.window(np.array(gains)) == wanted
