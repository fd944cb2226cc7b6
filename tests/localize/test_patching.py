"""Patching by parts is patching by the whole pass."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.localize import patching, questions
from relearn_jax.models import transformer
from relearn_jax.models.sites import Site, Sites


def full(decoder, *arguments):
    """The answers of a whole pass with interventions."""
    return _full(*decoder, *arguments)


@partial(jax.jit, static_argnums=(0, 5))
def _full(model, params, inputs, question, sites, probabilities=False):
    h, _ = transformer.hidden(model, params, inputs, sites)
    h = questions.at_last(h, question.last)
    return questions.answers(model, params, h, question.words, probabilities)


def rows(decoder, layer, *shape):
    """True in one layer, to be broadcast."""
    count = decoder[0].config.layers
    return (np.arange(count) == layer).reshape(-1, *shape)


def test_answers_are_the_logits_of_the_words(decoder, pair, runs):
    model, params = decoder
    logits = np.asarray(jax.jit(partial(transformer.apply, model))(params, pair.clean)[0])
    for b, (last, words) in enumerate(zip(pair.question.last, pair.question.words, strict=True)):
        wanted = np.where(words < 0, -np.inf, logits[b, last, np.maximum(words, 0)])
        np.testing.assert_allclose(runs[0].answers[b], wanted, atol=1e-5)
    sure = questions.run(model, params, pair.clean, pair.question, probabilities=True).answers
    np.testing.assert_allclose(
        sure[:, 0] - sure[:, 1], runs[0].answers[:, 0] - runs[0].answers[:, 1], atol=1e-5
    )


def test_the_difference_is_to_the_mean_of_the_others():
    found = questions.difference(jnp.array([[3.0, 1.0, 2.0], [3.0, 1.0, -jnp.inf]]))
    np.testing.assert_allclose(found, [1.5, 2.0])


@pytest.mark.parametrize("place", ["attention", "mlp_out", "states"])
@pytest.mark.parametrize("groups", [1, 3])
def test_every_layer_and_position_is_the_full_pass(decoder, pair, runs, place, groups):
    clean, corrupt = runs
    found = patching.by_position(
        *decoder, pair.corrupt, corrupt, clean, pair.question, place, groups
    )
    layers, length = decoder[0].config.layers, pair.clean.ids.shape[1]
    assert found.shape == (layers, length, *pair.question.words.shape)
    changed = 0.0
    for layer in range(layers):
        for position in range(length):
            patch = getattr(clean, place)
            here = rows(decoder, layer, 1, 1, 1)
            if place == "states":
                here = np.concatenate([here, np.zeros((1, 1, 1, 1), bool)])
            where = here & (np.arange(length) == position)[:, None]
            sites = Sites(**{place: Site(patch=patch, where=where)})
            wanted = full(decoder, pair.corrupt, pair.question, sites)
            np.testing.assert_allclose(found[layer, position], wanted, atol=1e-4)
            changed = max(changed, float(np.abs(wanted[:, 0] - corrupt.answers[:, 0]).max()))
    assert changed > 0.05, "a patch that changes nothing shows nothing"


def test_every_head_is_the_full_pass(decoder, pair, runs):
    clean, corrupt = runs
    found = patching.by_head(*decoder, pair.corrupt, corrupt, clean, pair.question)
    for layer in range(decoder[0].config.layers):
        for head in range(decoder[0].config.heads):
            where = rows(decoder, layer, 1, 1, 1, 1) & (np.arange(4) == head)[:, None]
            sites = Sites(heads=Site(patch=clean.heads, where=where))
            wanted = full(decoder, pair.corrupt, pair.question, sites)
            np.testing.assert_allclose(found[layer, head], wanted, atol=1e-4)


def test_whole_places_and_probabilities_are_the_full_pass(decoder, pair, runs):
    clean, corrupt = runs
    found = patching.whole(
        *decoder, pair.corrupt, corrupt, clean, pair.question, "mlp_out", probabilities=True
    )
    for layer in range(decoder[0].config.layers):
        sites = Sites(mlp_out=Site(patch=clean.mlp_out, where=rows(decoder, layer, 1, 1, 1)))
        wanted = full(decoder, pair.corrupt, pair.question, sites, True)
        np.testing.assert_allclose(found[layer], wanted, atol=1e-4)


def test_a_patch_with_itself_changes_nothing_and_all_states_everything(decoder, pair, runs):
    clean, corrupt = runs
    itself = patching.by_head(*decoder, pair.clean, clean, clean, pair.question)
    np.testing.assert_allclose(itself, np.broadcast_to(clean.answers, itself.shape), atol=1e-5)
    all_states = patching.whole(*decoder, pair.corrupt, corrupt, clean, pair.question, "states")
    np.testing.assert_allclose(
        all_states, np.broadcast_to(clean.answers, all_states.shape), atol=1e-4
    )
    restored, base, source = (
        questions.difference(a) for a in (all_states, corrupt.answers, clean.answers)
    )
    share = (restored - base).mean(-1) / (source - base).mean()
    np.testing.assert_allclose(share, 1.0, atol=1e-3)


def test_the_last_position_of_the_last_layer_decides(decoder, pair, runs):
    """Positions after a prompt's last, and its padding, decide nothing."""
    clean, corrupt = runs
    found = patching.by_position(*decoder, pair.corrupt, corrupt, clean, pair.question, "attention")
    for b, last in enumerate(np.asarray(pair.question.last)):
        base = corrupt.answers[b]
        np.testing.assert_allclose(
            found[:, last + 1 :, b], np.broadcast_to(base, found[:, last + 1 :, b].shape), atol=1e-5
        )
        np.testing.assert_allclose(
            found[-1, :last, b], np.broadcast_to(base, found[-1, :last, b].shape), atol=1e-5
        )
