"""Causal tracing: no noise, no loss; everything restored, nothing lost; each draw with its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from relearn_jax.localize import questions, tracing
from relearn_jax.models import transformer
from relearn_jax.models.sites import Site, Sites

KEYS = jax.random.split(jax.random.key(0), (3, 4))
EVERYWHERE = jnp.ones((1, 1, 1, 1), bool)


def traced(decoder, pair, clean, place, where=EVERYWHERE, scale=0.5, start=0):
    return tracing.restored(
        *decoder, pair.clean, clean, pair.question, place, where, KEYS, scale, start
    )


def sure(decoder, pair):
    return questions.run(*decoder, pair.clean, pair.question, probabilities=True)


def test_without_noise_nothing_is_lost(decoder, pair):
    clean = sure(decoder, pair)
    restored, corrupt = traced(decoder, pair, clean, "mlp_out", scale=0.0)
    np.testing.assert_allclose(corrupt, np.broadcast_to(clean.answers, corrupt.shape), atol=1e-5)
    np.testing.assert_allclose(restored, np.broadcast_to(clean.answers, restored.shape), atol=1e-5)


def test_all_states_restored_bring_all_back(decoder, pair):
    clean = sure(decoder, pair)
    restored, corrupt = traced(decoder, pair, clean, "states")
    assert np.abs(corrupt - clean.answers)[..., 0].max() > 0.05, "the noise did something"
    wanted = np.broadcast_to(clean.answers, restored.shape)[..., 0]
    np.testing.assert_allclose(restored[..., 0], wanted, atol=1e-3)


def test_a_restoration_is_the_full_pass_with_the_same_noise(decoder, pair):
    """Paired draws: the corrupted run that is restored is the one that is compared with."""
    model, params = decoder
    clean = sure(decoder, pair)
    restored, corrupt = traced(decoder, pair, clean, "mlp_out", start=2)

    @jax.jit
    def full(key, layer):
        noise = 0.5 * jax.vmap(lambda own: jax.random.normal(own, clean.states.shape[2:]))(key)
        embedded = clean.states[0] + noise * pair.question.subject[..., None]
        where = (jnp.arange(model.config.layers) == layer)[:, None, None, None]
        sites = Sites(mlp_out=Site(patch=clean.mlp_out, where=where))
        h, _ = transformer.hidden(model, params, pair.clean, sites, embedded=embedded)
        h = questions.at_last(h, pair.question.last)
        return questions.answers(model, params, h, pair.question.words, True)

    for r, key in enumerate(KEYS):
        for layer in range(model.config.layers):
            np.testing.assert_allclose(restored[r, layer, 0], full(key, layer), atol=1e-4)
    assert np.abs(corrupt[0] - corrupt[1])[:, 0].max() > 1e-3, "draws differ"


def test_the_deviation_is_that_of_the_subjects_embeddings(decoder, pair):
    clean = sure(decoder, pair)
    wanted = np.asarray(clean.states[0])[np.asarray(pair.question.subject)].std()
    np.testing.assert_allclose(
        tracing.deviation(clean.states[0], pair.question.subject), wanted, rtol=1e-5
    )


def test_restoring_from_another_draw_of_the_same_noise_brings_nothing_back(decoder, pair):
    clean = sure(decoder, pair)
    ask = (*decoder, pair.clean, clean, pair.question, "mlp_out", EVERYWHERE, KEYS, 0.5)
    same, corrupt = tracing.restored(*ask, others=KEYS)
    np.testing.assert_allclose(same[:, :, 0], corrupt[:, None].repeat(3, 1), atol=1e-5)
    other, _ = tracing.restored(*ask, others=jnp.roll(KEYS, 1, axis=0))
    assert np.abs(other[:, :, 0] - corrupt[:, None])[..., 0].max() > 1e-3
