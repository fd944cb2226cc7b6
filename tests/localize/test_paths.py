"""Path patching against passes in which everything else is held by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from test_patching import full

from relearn_jax.localize import paths
from relearn_jax.models.sites import Site, Sites


def test_a_head_reaches_the_output_through_feed_forward_layers_alone(decoder, pair, runs):
    clean, corrupt = runs
    found = paths.heads_to_output(*decoder, pair.corrupt, corrupt, clean, pair.question)
    freely = 0.0
    for layer in range(decoder[0].config.layers):
        for head in range(decoder[0].config.heads):
            z = corrupt.heads.at[layer, :, :, head].set(clean.heads[layer, :, :, head])
            wanted = full(decoder, pair.corrupt, pair.question, Sites(heads=Site(patch=z)))
            np.testing.assert_allclose(found[layer, head], wanted, atol=1e-4)
            where = (np.arange(len(z)) == layer)[:, None, None, None, None]
            open_ = Sites(heads=Site(patch=z, where=where))
            other = full(decoder, pair.corrupt, pair.question, open_)
            freely = max(freely, float(np.abs(other - wanted)[:, 0].max()))
    assert freely > 1e-2, "later heads would have responded"


def test_a_feed_forward_layer_reaches_the_receiver_directly(decoder, pair, runs):
    clean, corrupt = runs
    receiver = 2
    found = paths.mlps_to_state(
        *decoder, pair.corrupt, corrupt, clean, pair.question, jnp.int32(receiver)
    )
    for layer in range(decoder[0].config.layers):
        if layer >= receiver:
            np.testing.assert_allclose(found[layer], corrupt.answers, atol=1e-4)
            continue
        step = clean.mlp_out[layer] - corrupt.mlp_out[layer]
        delta = jnp.zeros_like(corrupt.states).at[receiver].set(step)
        wanted = full(decoder, pair.corrupt, pair.question, Sites(states=Site(delta=delta)))
        np.testing.assert_allclose(found[layer], wanted, atol=1e-4)
        assert np.abs(wanted - corrupt.answers)[:, 0].max() > 1e-2


def test_choices_are_those_of_either_sign():
    effects = jnp.array([[0.1, -0.9], [0.5, 0.0]])
    assert paths.extraction(effects, 2) == [(0, 1), (1, 0)]
    found = paths.lookup(jnp.array([0.0, -0.05, 0.011, 0.05, 0.01]))
    np.testing.assert_array_equal(found, [False, True, False, True, False])
    found = paths.lookup(jnp.array([0.0, -0.05, 0.011, 0.05, 0.01]), positive=True)
    np.testing.assert_array_equal(found, [False, False, False, True, False])
