"""Laws of adapters: new ones change nothing, and merging adds their scaled product."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from relearn_jax.editing import adapters
from relearn_jax.models import paths

MATRICES = {"blocks/up/kernel": (3, 8, 12), "blocks/down/kernel": (3, 12, 8)}


def test_full_adapters_are_added():
    params = paths.unflatten({path: np.ones(shape) for path, shape in MATRICES.items()})
    leaves = {path.replace("kernel", "adapter"): np.ones(s) for path, s in MATRICES.items()}
    found = adapters.attached(3.0, params, paths.unflatten(leaves))
    for path, leaf in paths.flatten(found).items():
        np.testing.assert_array_equal(leaf, np.full(MATRICES[path], 2.0))


def test_the_first_matrix_is_drawn_as_in_peft():
    """Uniform in ±1/sqrt(I): kaiming_uniform with a = sqrt(5), the default of the library."""
    shapes = adapters.shapes({"blocks/up/kernel": (2, 400, 16)}, 50)
    down = paths.flatten(adapters.draw(jax.random.key(0), shapes))["blocks/up/adapter_down"]
    limit = 1 / np.sqrt(400)
    assert np.abs(down).max() <= limit
    assert np.std(down) == pytest.approx(limit / np.sqrt(3), rel=0.02)
