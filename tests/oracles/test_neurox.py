from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

try:
    import neurox.analysis.corpus
    import neurox.interpretation.probeless  # noqa: F401
except ImportError as error:
    pytest.skip(
        f"NOT CHECKED against NeuroX: {error}. Run this file in the check environment.",
        allow_module_level=True,
    )

sys.path.insert(0, str(Path(__file__).parent))
import neurox_check


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("labels", [2, 5])
def test_probeless_order_is_neuroxs(labels, dtype):
    neurox_check.check_probeless(11, labels, dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_top_words_are_neuroxs(dtype):
    assert neurox_check.check_top_words(12, dtype) >= 5 * neurox_check.S * neurox_check.D


def test_planted_ties_are_among_the_top_words():
    """Otherwise the order of equal scores was not compared at all."""
    data = neurox_check.sample(12, 2, np.float64)
    x = np.concatenate(data.activations)
    words = [word for sentence in data.words for word in sentence]
    _, score, count = neurox_check.direct_type_scores(x, words)
    _, shares = neurox_check.tokens.top_tokens(score, count, neurox_check.config.Tracking())
    assert (np.diff(shares, axis=1) == 0).any(axis=1).sum() >= 5
