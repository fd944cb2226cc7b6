"""Localizers as published: each defect is there, and each part is what it says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_patching import full

from relearn_jax.localize import attribution, published, questions
from relearn_jax.localize.published import Noise
from relearn_jax.models import transformer
from relearn_jax.models.sites import Site, Sites

TARGETS = jnp.array([3, 4, 5, 3])


def noise(scale):
    keys = jax.random.split(jax.random.key(0), (2, 4))
    return Noise(jnp.full(4, scale), keys, TARGETS)


@pytest.fixture(scope="module")
def states(decoder, pair):
    return questions.run(*decoder, pair.clean, pair.question)


def restored(decoder, pair, states, place, where, scale):
    return published.restored(
        *decoder, pair.clean, pair.question, states.states[0], getattr(states, place), place, where,
        noise(scale), 1,
    )  # fmt: skip


def test_the_mass_is_of_the_answers_of_all_prompts(decoder, pair, states):
    """Answers that occur twice count twice."""
    found = published.mass(*decoder, pair.clean, pair.question, TARGETS, states.states[0])
    h, _ = transformer.hidden(*decoder, pair.clean)
    last = questions.at_last(h, pair.question.last)
    p = jax.nn.softmax(transformer.head(*decoder, last[:, None])[:, 0])
    np.testing.assert_allclose(found, p[:, 4] + p[:, 5] + 2 * p[:, 3], rtol=1e-5)


@pytest.mark.parametrize("place", ["heads", "mlp_out"])
def test_every_pass_has_noise_of_its_own(decoder, pair, states, place):
    """So restoring nothing moves the answer too; without noise nothing does."""
    model = decoder[0]
    where = published.components(model.config.layers, model.config.heads)[place]
    nothing = restored(decoder, pair, states, place, np.zeros_like(where), 1.0)
    assert np.ptp(nothing, axis=0).min() > 1e-3
    quiet = restored(decoder, pair, states, place, where, 0.0)
    before = published.mass(*decoder, pair.clean, pair.question, TARGETS, states.states[0])
    np.testing.assert_allclose(quiet, np.broadcast_to(before, quiet.shape), atol=1e-5)


def test_single_heads_are_restored_in_the_order_of_layers(decoder, pair, states):
    """Each as in a full pass with the noise of its number."""
    model, params = decoder
    layers, heads = model.config.layers, model.config.heads
    where = published.components(layers, heads)["heads"]
    assert where.shape == (layers * heads, layers, 1, 1, heads, 1)
    found, number = restored(decoder, pair, states, "heads", where, 1.0), heads + 2
    own = noise(1.0)
    corrupt = published.noised(
        states.states[0], pair.question.subject, own.scale, own.keys[0], 1 + number
    )
    patch = jnp.zeros((layers, 1, 1, heads, 1), bool).at[1, 0, 0, 2, 0].set(True)
    sites = Sites(heads=Site(patch=states.heads, where=patch))
    alone = published.mass(model, params, pair.clean, pair.question, TARGETS, corrupt, sites)
    np.testing.assert_allclose(found[number], alone, rtol=1e-5)


@pytest.mark.parametrize("place", ["queries", "keys", "values", "mlp_in"])
def test_the_summed_places_are_directional_derivatives(decoder, pair, runs, place):
    step_to, small = [], 3e-3
    for run in runs:
        step_to.append(published.read(*decoder, pair.clean, run.states[0]))
    clean, corrupt = step_to
    change = attribution.attribution(
        *decoder, pair.clean, clean, corrupt, pair.question, 0, (place,)
    )[place]  # fmt: skip
    step = getattr(corrupt, place) - getattr(clean, place)
    for layer in range(decoder[0].config.layers):
        here = (np.arange(len(step)) == layer).reshape(-1, *[1] * (step.ndim - 1))
        ends = [
            questions.difference(
                full(
                    decoder, pair.clean, pair.question,
                    Sites(**{place: Site(delta=sign * small * step * here)}),
                )
            )
            for sign in (1, -1)
        ]  # fmt: skip
        slope = (ends[0] - ends[1]) / (2 * small)
        np.testing.assert_allclose(published._by_layer(change)[layer], slope, atol=1e-2, rtol=2e-2)
