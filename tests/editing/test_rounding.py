"""Rounding: at most half a step away, few values, and the largest entry of an output stays."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.editing import rounding

PATH = "blocks/up/kernel"


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_to_nearest(bits):
    matrix = np.random.default_rng(0).normal(size=(2, 64, 5)).astype(np.float32)
    matrix[0, :, 0] = 0
    params = {"blocks": {"up": {"kernel": matrix}, "norm": {"scale": matrix[:, 0]}}}
    out = rounding.rounded(params, [PATH], bits)
    found = np.asarray(out["blocks"]["up"]["kernel"])
    step = np.abs(matrix).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    assert (np.abs(found - matrix) <= 0.5001 * step).all()
    for layer, column in np.ndindex(2, 5):
        assert len(np.unique(found[layer, :, column])) <= 2**bits - 1
    np.testing.assert_allclose(np.abs(found).max(1), np.abs(matrix).max(1), rtol=1e-6)
    np.testing.assert_array_equal(out["blocks"]["norm"]["scale"], matrix[:, 0])
