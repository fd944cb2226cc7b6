"""Carriers of facts: effects are derivatives, and matching finds descent where there is one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.localize import carriers, questions
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites


@pytest.fixture(scope="module")
def prompts(pair):
    question = pair.question
    words = np.asarray(question.words)
    return Prompts(
        *(np.asarray(x) for x in (*pair.clean, question.subject, question.last)),
        words[:, 0], words[:, 1:],
    )  # fmt: skip


def margins(decoder, prompts, mask):
    """Right answer less the first alternative, with every neuron's activation times `mask`."""
    model, params = decoder
    h, _ = transformer.hidden(
        model, params, Inputs(prompts.ids, prompts.mask), Sites(mlp=Site(mask=mask))
    )
    words = np.stack([prompts.target, prompts.others[:, 0]], 1)
    logits = questions.answers(model, params, questions.at_last(h, prompts.last), words)
    return logits[:, 0] - logits[:, 1]


def test_an_effect_is_the_derivative_by_the_size_of_its_neuron(decoder, prompts):
    """Of the margin, where the neuron's activation is multiplied by 1 + e at every token."""
    found = carriers.effects(*decoder, prompts)
    layers, width = 3, decoder[0].config.mlp_width
    assert found.shape == (layers, width, len(prompts.ids))
    ones = jnp.ones((layers, 1, 1, width))
    rng = np.random.default_rng(0)
    for layer, neuron in zip(
        rng.integers(layers, size=6), rng.integers(width, size=6), strict=True
    ):
        step = jnp.zeros_like(ones).at[layer, 0, 0, neuron].set(1.0)
        _, slope = jax.jvp(lambda m: margins(decoder, prompts, m), (ones,), (step,))
        np.testing.assert_allclose(found[layer, neuron], slope, rtol=1e-3, atol=1e-5)


def test_effects_do_not_depend_on_the_batch(decoder, prompts, monkeypatch):
    whole = carriers.effects(*decoder, prompts)
    monkeypatch.setattr(carriers, "BATCH", 3)
    np.testing.assert_allclose(carriers.effects(*decoder, prompts), whole, rtol=1e-4, atol=1e-6)


def drawn(seed, facts=30):
    effect = np.random.default_rng(seed).normal(size=(4, 100, facts))
    return carriers.carriers(effect + np.linspace(0, 2, 400).reshape(4, 100, 1))


def test_carriers_have_the_largest_mean_effects():
    found = drawn(0)
    assert len(found.index) == 16
    means = found.effect.mean(1)
    assert (np.diff(means) <= 0).all()
    assert found.by_layer.shape == (4, 30)


def test_what_did_not_change_descends_from_itself():
    found = drawn(0)
    lines = carriers.lineage(found, found, np.arange(30), 0)
    assert lines.same == 1
    assert lines.matched == pytest.approx(1)
    np.testing.assert_array_equal(lines.ancestor, np.arange(16))
    assert lines.shuffled < 0.7


def test_neurons_that_moved_are_found_by_what_they_do():
    """The same effects in other neurons, in another order, over some of the facts."""
    before, facts = drawn(0), np.arange(5, 25)
    order = np.random.default_rng(1).permutation(16)
    after = before._replace(
        index=before.index[order] + 1000, effect=3 * before.effect[order][:, facts] + 1
    )
    lines = carriers.lineage(before, after, facts, 0)
    assert lines.same == 0
    assert lines.matched == pytest.approx(1)
    np.testing.assert_array_equal(lines.ancestor, order)


def test_strangers_match_no_better_than_shuffled_facts():
    lines = carriers.lineage(drawn(0), drawn(1), np.arange(30), 0)
    assert abs(lines.matched - lines.shuffled) < 0.1
