"""Laws of adapters: new ones change nothing, and merging adds their scaled product."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from relearn_jax.editing import adapters
from relearn_jax.models import paths

MATRICES = {"blocks/up/kernel": (3, 8, 12), "blocks/down/kernel": (3, 12, 8)}


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    leaves = {path: rng.normal(size=shape) for path, shape in MATRICES.items()}
    return paths.unflatten({**leaves, "final/norm/scale": np.ones(8)})


@pytest.mark.parametrize("rank", [4, None])
def test_new_adapters_change_nothing(params, rank):
    drawn = adapters.draw(jax.random.key(0), adapters.shapes(MATRICES, rank))
    merged = paths.flatten(adapters.merged(params, drawn, 2.0))
    for path, leaf in paths.flatten(params).items():
        np.testing.assert_array_equal(merged[path], np.float32(leaf))


def test_merging_adds_the_scaled_product_layer_by_layer(params):
    shapes = adapters.shapes(MATRICES, 4)
    rng = np.random.default_rng(1)
    leaves = {path: rng.normal(size=shape) for path, shape in shapes.items()}
    merged = paths.flatten(adapters.merged(params, paths.unflatten(leaves), 0.5))
    for path in MATRICES:
        folder = path.removesuffix("kernel")
        before = paths.flatten(params)[path]
        for layer in range(3):
            down, up = (leaves[f"{folder}adapter_{part}"][layer] for part in ("down", "up"))
            np.testing.assert_allclose(
                merged[path][layer], before[layer] + 0.5 * down @ up, rtol=1e-5, atol=1e-5
            )
    assert set(merged) == set(paths.flatten(params))


def test_full_adapters_are_added(params):
    leaves = {path.replace("kernel", "adapter"): np.ones(s) for path, s in MATRICES.items()}
    merged = paths.flatten(adapters.merged(params, paths.unflatten(leaves)))
    for path in MATRICES:
        np.testing.assert_allclose(merged[path], paths.flatten(params)[path] + 1, rtol=1e-6)


def test_the_first_matrix_is_drawn_as_in_peft():
    """Uniform in ±1/sqrt(I): kaiming_uniform with a = sqrt(5), the default of the library."""
    shapes = adapters.shapes({"blocks/up/kernel": (2, 400, 16)}, 50)
    down = paths.flatten(adapters.draw(jax.random.key(0), shapes))["blocks/up/adapter_down"]
    limit = 1 / np.sqrt(400)
    assert np.abs(down).max() <= limit
    assert np.std(down) == pytest.approx(limit / np.sqrt(3), rel=0.02)
