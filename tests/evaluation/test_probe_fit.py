"""Probes against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from relearn_jax.evaluation import probes


@pytest.mark.parametrize(("examples", "width"), [(120, 8), (40, 64)])
@pytest.mark.parametrize("strength", [1.0, 0.05])
def test_all_probes_together_are_sklearns_one_by_one(examples, width, strength):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, examples)
    x = (
        rng.normal(size=(3, examples, width))
        + np.array([0, 0.5, 2])[:, None, None] * (rng.normal(size=(3, width))[y])
    )
    found = probes.fit(x, y, 3, strength)
    for s in range(3):
        oracle = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(x[s], y)
        logits = x[s] @ np.asarray(found.weights[s]) + np.asarray(found.bias[s])
        wanted = oracle.decision_function(x[s])
        centred = [z - z.mean(-1, keepdims=True) for z in (logits, wanted)]
        np.testing.assert_allclose(*centred, atol=5e-3)
        right = probes.accuracy(found, x, y)[s]
        assert right == pytest.approx(oracle.score(x[s], y), abs=1 / examples)
    assert probes.accuracy(found, x, y)[2] > 0.9
