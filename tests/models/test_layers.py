"""Laws of the layers that families share."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from relearn_jax.editing import adapters
from relearn_jax.localize import selection
from relearn_jax.models import paths, transformer


def test_a_model_with_adapters_is_the_model_with_their_product_in_its_matrices(tiny):
    model, params, inputs = tiny
    apply = jax.jit(partial(transformer.apply, model))
    before = apply(params, inputs)[0]
    matrices = selection.space(model).shapes
    shapes = adapters.shapes(matrices, 2)
    new = adapters.draw(jax.random.key(0), shapes)
    same = apply(adapters.attached(2.0, params, new), inputs)[0]
    np.testing.assert_allclose(same, before, atol=1e-6)

    rng = np.random.default_rng(1)
    leaves = {path: np.float32(0.3 * rng.normal(size=shape)) for path, shape in shapes.items()}
    found = apply(adapters.attached(0.5, params, paths.unflatten(leaves)), inputs)[0]
    merged = {path: np.array(leaf) for path, leaf in paths.flatten(params).items()}
    for path in matrices:
        down, up = (leaves[path.replace("kernel", f"adapter_{part}")] for part in ("down", "up"))
        merged[path] += 0.5 * down @ up
    expected = apply(paths.unflatten(merged), inputs)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(found - before).max() > 1e-2
