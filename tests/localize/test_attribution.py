"""Attribution is the derivative of patching, and its path form adds up to the whole change."""

from __future__ import annotations

import numpy as np
import pytest
from test_patching import full

from relearn_jax.localize import attribution, questions
from relearn_jax.models.sites import Site, Sites


def metric(decoder, inputs, question, sites):
    return questions.difference(full(decoder, inputs, question, sites))


@pytest.mark.parametrize("place", attribution.PLACES)
def test_ap_is_the_directional_derivative(decoder, pair, runs, place):
    clean, corrupt = runs
    found = attribution.attribution(*decoder, pair.clean, clean, corrupt, pair.question)[place]
    step = getattr(corrupt, place) - getattr(clean, place)
    small = 3e-3
    for layer in range(decoder[0].config.layers):
        here = (np.arange(len(step)) == layer).reshape(-1, *[1] * (step.ndim - 1))
        ends = [
            metric(
                decoder, pair.clean, pair.question,
                Sites(**{place: Site(delta=sign * small * step * here)}),
            )
            for sign in (1, -1)
        ]  # fmt: skip
        slope = (ends[0] - ends[1]) / (2 * small)
        total = found[layer].sum(0)
        total = total.sum(-1) if place == "heads" else total
        np.testing.assert_allclose(total, slope, atol=1e-2, rtol=2e-2)
        assert np.abs(slope).max() > 0.02


def test_the_path_integral_is_complete(decoder, pair, runs):
    """At the embeddings it adds up to the whole change (Sundararajan et al. 2017)."""
    clean, corrupt = runs
    change = questions.difference(corrupt.answers) - questions.difference(clean.answers)
    errors = []
    for steps in (0, 4, 32):
        found = attribution.attribution(
            *decoder, pair.clean, clean, corrupt, pair.question, steps=steps
        )
        errors.append(float(np.abs(found["states"][0].sum(0) - change).max()))
    assert errors[2] < 0.02 * float(np.abs(change).max())
    assert errors[2] < errors[1] < errors[0]


def test_nothing_is_attributed_to_what_does_not_differ(decoder, pair, runs):
    clean, corrupt = runs
    found = attribution.attribution(*decoder, pair.clean, clean, corrupt, pair.question)
    for place in ("states", "attention", "mlp_out"):
        np.testing.assert_array_equal(found[place][:, :2], 0.0)
    same = attribution.attribution(*decoder, pair.clean, clean, clean, pair.question)
    np.testing.assert_array_equal(same["mlp_out"], 0.0)
