"""The sham is as large as the edit in every layer of every matrix, and unrelated to it."""

from __future__ import annotations

import jax
import numpy as np

from relearn_jax.editing import controls


def test_a_sham_is_as_large_as_the_edit_in_every_layer():
    rng = np.random.default_rng(0)
    updates = {
        "blocks/up/kernel": rng.normal(size=(3, 40, 50)) * np.array([0, 1, 5])[:, None, None],
        "blocks/down/kernel": rng.normal(size=(3, 50, 40)),
    }
    sham = controls.sham(jax.random.key(0), updates, 2.0)
    for path, update in updates.items():
        size = np.linalg.norm(update, axis=(1, 2))
        np.testing.assert_allclose(np.linalg.norm(sham[path], axis=(1, 2)), 2 * size, rtol=1e-5)
        for layer in np.flatnonzero(size):
            cosine = np.sum(sham[path][layer] * update[layer]) / (2 * size[layer] ** 2)
            assert abs(cosine) < 0.1
    assert not np.array_equal(sham["blocks/up/kernel"][1], sham["blocks/up/kernel"][2])
