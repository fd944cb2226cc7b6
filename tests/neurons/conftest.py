"""Word activations with planted structure, and their moments computed the direct way."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.neurons.statistics import Moments


def direct_moments(x, member):
    """Moments of activations x [W,S,D] with labels member [W,Y], in float64, word by word."""
    groups = [x[member[:, y]] for y in range(member.shape[1])] + [x]
    empty = np.zeros(x.shape[1:])
    return Moments(
        np.array([len(g) for g in groups], np.float64),
        np.stack([g.mean(0) if len(g) else empty for g in groups]),
        np.stack([((g - g.mean(0)) ** 2).sum(0) if len(g) else empty for g in groups]),
    )


@pytest.fixture
def moments_of():
    return direct_moments


@pytest.fixture
def words():
    """400 words, S=3 rows, D=8 channels, Y=4 labels of which label 2 has no words."""
    rng = np.random.default_rng(7)
    label = rng.choice([0, 1, 3], 400, p=[0.2, 0.3, 0.5])
    member = np.eye(4, dtype=bool)[label]
    x = rng.normal(size=(400, 3, 8)) * rng.uniform(0.1, 9, (3, 8)) + rng.normal(size=(3, 8))
    x += np.einsum("wy,ysd->wsd", member, rng.normal(size=(4, 3, 8)))
    return x, member
