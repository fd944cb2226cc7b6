"""The streaming pass equals the direct computation on stored activations."""

from __future__ import annotations

from functools import partial

import chex
import jax
import numpy as np
import pytest

from relearn_jax import config
from relearn_jax.data.alignment import encode
from relearn_jax.data.batching import word_batches
from relearn_jax.data.concepts import concept_data
from relearn_jax.data.corpus import make_corpus
from relearn_jax.data.world import generate
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites, Tap, Taps, everything
from relearn_jax.neurons import statistics


@pytest.fixture(scope="module")
def probe(tagger):
    """Model, parameters, encoded sentences (some words have several sub-words), concepts."""
    words, tags = generate(40, "dev", 3)
    corpus = make_corpus(words, tags, "generated", True)
    data = concept_data(corpus, config.Concepts())
    return tagger.model, tagger.params, encode(tagger.tokenizer, data.words, 64), data


@pytest.fixture(scope="module", params=["states", "mlp"])
def direct(request, probe):
    """Word vectors of all words [W, S, D] in float64, memberships [W, Y], and types [W]."""
    model, params, encoded, data = probe
    run = jax.jit(partial(transformer.apply, model, taps=Taps(**{request.param: Tap(everything)})))
    vectors = []
    for ids, word, kind in zip(encoded.ids, encoded.word, data.kind, strict=True):
        row = np.zeros((1, 64), np.int32)
        row[0, : len(ids)] = ids
        _, taps = run(params, Inputs(row, np.arange(64)[None] < len(ids)))
        states = np.asarray(getattr(taps, request.param), np.float64)[:, 0, : len(ids)]
        for w in range(len(kind)):
            vectors.append(states[:, word == w].mean(1))
    member = np.concatenate(data.member)
    return request.param, np.stack(vectors), member, np.concatenate(data.kind)


def side_by_side(tree):
    """One model as C = 2: itself, and itself doubled."""
    return jax.tree.map(lambda x: np.stack([np.asarray(x), 2 * np.asarray(x)]), tree)


def one(tree):
    return jax.tree.map(lambda x: np.asarray(x)[None], tree)


def first(tree):
    return jax.tree.map(lambda x: x[0], tree)


def moments_of(probe, site, batch_size):
    model, params, encoded, data = probe
    batches = word_batches(encoded, data, batch_size, (32, 64))
    return first(
        statistics.concept_moments(model, side_by_side(params), batches, len(data.names), site)
    )


def test_moments_equal_the_direct_ones(probe, direct):
    site, x, member, _ = direct
    moments = moments_of(probe, site, 8)
    groups = [*(x[member[:, y]] for y in range(member.shape[1])), x]
    np.testing.assert_array_equal(moments.count, [len(g) for g in groups])
    for y, group in enumerate(groups):
        np.testing.assert_allclose(moments.mean[y], group.mean(0), atol=1e-5)
        deviation = np.sqrt(np.asarray(moments.m2[y]) / len(group))
        np.testing.assert_allclose(deviation, group.std(0), atol=1e-5, rtol=1e-5)


def test_moments_do_not_depend_on_the_batches(probe, direct):
    a, b = (moments_of(probe, direct[0], size) for size in (3, 16))
    chex.assert_trees_all_close(a, b, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("signed", [False, True])
def test_type_scores_equal_the_direct_ones(probe, direct, signed):
    site, x, _, kind = direct
    model, params, encoded, data = probe
    moments = moments_of(probe, site, 8)
    scores = first(
        statistics.type_scores(
            model, one(params), word_batches(encoded, data, 8, (32, 64)), one(moments),
            len(data.types), site, signed=signed,
        )
    )  # fmt: skip
    z = (x - x.mean(0)) / x.std(0)
    z = z if signed else np.abs(z)
    np.testing.assert_array_equal(scores.count, np.bincount(kind))
    wanted = np.stack([z[kind == v].mean(0) for v in range(len(data.types))])
    np.testing.assert_allclose(scores.score, wanted, atol=2e-5)


def test_a_constant_neuron_has_no_scores(probe):
    model, params, encoded, data = probe
    rows, width = statistics.neuron_shape(model, "states")
    mask = np.ones((rows, width), np.float32)
    mask[2, :5] = 0
    sites = one(Sites(states=Site(mask=mask)))
    batches = partial(word_batches, encoded, data, 8, (32, 64))
    params = one(params)
    moments = statistics.concept_moments(model, params, batches(), len(data.names), sites=sites)
    scores = first(
        statistics.type_scores(model, params, batches(), moments, len(data.types), sites=sites)
    ).score
    assert np.all(np.asarray(scores)[:, 2, :5] == 0)
    assert np.all(np.asarray(scores)[:, 2, 5:].max(0) > 0)


def test_merging_is_the_union():
    rng = np.random.default_rng(0)
    x = rng.normal(1000.0, 1.0, (50, 2, 3))

    def of(part):
        mean = part.mean(0)
        m2 = ((part - mean) ** 2).sum(0)
        count = np.full(1, len(part), np.float32)
        return statistics.Moments(count, *(np.float32(v[None]) for v in (mean, m2)))

    merged = statistics.merge(of(x[:13]), of(x[13:]))
    chex.assert_trees_all_close(merged, of(x), rtol=1e-4)


def test_shapes_compile_once(probe):
    moments_of(probe, "states", 8)
    before = statistics._add_moments._cache_size()
    moments_of(probe, "states", 8)
    assert statistics._add_moments._cache_size() == before
