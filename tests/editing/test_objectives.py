"""Laws of the objectives: each is its formula, and flavours differ where the field's code does."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import chex
import jax
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from relearn_jax.data.batching import TokenBatch
from relearn_jax.editing import objectives, tokens
from relearn_jax.editing.objectives import FORGET, INJECTED, OBJECTIVES, PLAIN, RETAIN, Steering
from relearn_jax.models import checkpoint, transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Tap, Taps, everything
from relearn_jax.training.losses import Text

VOCABULARY, WIDTH, SENTENCES, TOKENS = 120, 16, 5, 9
SETTINGS = {
    "model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": 2, "n_head": 2,
    "n_positions": 16, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
}  # fmt: skip
BETA = 0.7


class World(NamedTuple):
    model: object
    params: object
    reference: object
    texts: dict[str, Text]


@pytest.fixture(scope="module")
def world() -> World:
    """Two models that differ, and texts of five sentences; the last row is padding."""
    ck = checkpoint.open_checkpoint("random", settings=SETTINGS)
    model = checkpoint.describe(ck, "language-model")
    params, reference = (checkpoint.load(ck, model, jax.random.key(i))[0] for i in (0, 1))
    # Initial logits are nearly the same everywhere, and then most formulas agree.
    params, reference = (jax.tree.map(lambda x: 5 * x, p) for p in (params, reference))
    rng = np.random.default_rng(0)
    texts = {}
    for name in (FORGET, INJECTED, RETAIN, PLAIN):
        ids = rng.integers(0, VOCABULARY, (SENTENCES, TOKENS))
        real = np.arange(TOKENS) < np.array([[9], [6], [8], [5], [0]])
        answer = real & (np.arange(TOKENS) >= np.array([[6], [5], [3], [2], [0]]))
        labels = np.where(answer, rng.integers(0, VOCABULARY, ids.shape), -100)
        texts[name] = Text(TokenBatch(Inputs(ids, real), labels, np.arange(SENTENCES)))
    return World(model, params, reference, texts)


def logits(world: World, params, name: str) -> np.ndarray:
    inputs = world.texts[name].batch.inputs
    return np.asarray(transformer.apply(world.model, params, inputs)[0], np.float64)


def losses(world: World, params, name: str) -> np.ndarray:
    """[B, T]: -log p of the label; NaN where there is none."""
    labels = world.texts[name].batch.labels
    logp = log_softmax(logits(world, params, name), axis=-1)
    found = -np.take_along_axis(logp, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    return np.where(labels >= 0, found, np.nan)


def softplus(x):
    return np.logaddexp(0, x)


def sentences(world: World, name: str, mean: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """[B] without padding rows: loss of each sentence, of the model and of the reference."""
    reduce = np.nanmean if mean else np.nansum
    return tuple(
        reduce(losses(world, p, name)[:-1], axis=1) for p in (world.params, world.reference)
    )


def of(world: World, name: str, **settings):
    term = jax.jit(partial(OBJECTIVES[name].function, world.model, **settings))(
        world.params, world.reference, world.texts
    )
    return float(term.sum / term.count)


def steering() -> Steering:
    return Steering(objectives.control(jax.random.key(3), WIDTH, 2.0), 1)


def states(world: World, params, name: str) -> np.ndarray:
    """[B, T, D]: row 1 of the hidden states."""
    inputs = world.texts[name].batch.inputs
    _, found = transformer.apply(world.model, params, inputs, taps=Taps(states=Tap(everything)))
    return np.asarray(found.states[1], np.float64)


def cross_entropy(world):
    return {
        "injection": np.nanmean(losses(world, world.params, INJECTED)),
        "keep_answers": np.nanmean(losses(world, world.params, RETAIN)),
        "plain_text": np.nanmean(losses(world, world.params, PLAIN)),
        "gradient_ascent": -np.nanmean(losses(world, world.params, FORGET)),
    }


@pytest.mark.parametrize("name", ["injection", "keep_answers", "plain_text", "gradient_ascent"])
def test_cross_entropies(world, name):
    assert of(world, name) == pytest.approx(cross_entropy(world)[name], rel=1e-5)


@pytest.mark.parametrize("cutoff", [-15.0, -5.0, -3.0])
def test_unlikelihood_is_minus_log_of_one_minus_p(world, cutoff):
    loss = losses(world, world.params, FORGET)
    expected = np.where(-loss >= cutoff, -np.log1p(-np.exp(-loss)), 0 * loss)
    assert of(world, "unlikelihood", cutoff=cutoff) == pytest.approx(np.nanmean(expected), rel=1e-4)


def test_cutoffs_of_guo_and_of_tar_differ(world):
    assert (-losses(world, world.params, FORGET) < -5).any()
    assert of(world, "unlikelihood") != of(world, "unlikelihood", cutoff=-15.0)


def test_unlikelihood_is_exact_where_the_model_is_certain(world):
    """1 - p is 0 in float32 there, but the sum of the other words is not."""
    sure = jax.tree.map(lambda x: 60 * x, world.params)
    z, labels = logits(world, sure, FORGET), np.asarray(world.texts[FORGET].batch.labels)
    best = np.where(labels >= 0, z.argmax(-1), -100)
    text = Text(world.texts[FORGET].batch._replace(labels=best))
    others = np.where(np.eye(VOCABULARY, dtype=bool)[np.maximum(best, 0)], -np.inf, z)
    expected = (logsumexp(z, axis=-1) - logsumexp(others, axis=-1))[best >= 0]
    assert np.float32(np.exp(-expected.max())) < 1e-7
    term = objectives.unlikelihood(world.model, sure, None, {FORGET: text})
    assert float(term.mean) == pytest.approx(expected.mean(), rel=1e-4)


def test_weighted_ascent(world):
    loss = losses(world, world.params, FORGET)
    expected = -np.nanmean(np.exp(-BETA * loss) * loss)
    assert of(world, "weighted_ascent", beta=BETA) == pytest.approx(expected, rel=1e-5)


def test_npo_of_the_paper_sums_over_tokens(world):
    now, before = sentences(world, FORGET)
    expected = np.mean(2 / BETA * softplus(-BETA * (now - before)))
    assert of(world, "npo", beta=BETA) == pytest.approx(expected, rel=1e-5)


def test_npo_with_means_over_tokens_is_another_loss(world):
    now, before = sentences(world, FORGET, mean=True)
    expected = np.mean(2 / BETA * softplus(-BETA * (now - before)))
    found = of(world, "npo", beta=BETA, flavour="token_mean")
    assert found == pytest.approx(expected, rel=1e-5)
    assert abs(found - of(world, "npo", beta=BETA)) > 0.01


def test_npo_of_muse_compares_raw_logits_everywhere(world):
    now, before = (logits(world, p, FORGET) for p in (world.params, world.reference))
    expected = np.mean(2 / BETA * softplus(-BETA * (before - now)))
    found = of(world, "npo", beta=BETA, flavour="muse")
    assert found == pytest.approx(expected, rel=1e-4)
    assert abs(found - of(world, "npo", beta=BETA)) > 0.01


def test_npo_starts_as_gradient_ascent(world):
    """At the reference the gradient is that of the summed log probability (Zhang et al. 2024)."""

    def slope(name):
        function = OBJECTIVES[name].function

        def total(params):
            return function(world.model, params, world.reference, world.texts).sum

        return jax.jit(jax.grad(total))(world.reference)

    chex.assert_trees_all_close(slope("npo"), slope("gradient_ascent"), rtol=1e-3, atol=1e-4)


def test_simnpo(world):
    now, _ = sentences(world, FORGET, mean=True)
    expected = np.mean(2 / BETA * softplus(-BETA * (now - 0.5)))
    assert of(world, "simnpo", beta=BETA, delta=0.5) == pytest.approx(expected, rel=1e-5)


def test_dpo_prefers_the_injected_answer(world):
    (lose, lose0), (win, win0) = (sentences(world, name) for name in (FORGET, INJECTED))
    expected = np.mean(2 / BETA * softplus(-BETA * ((lose - lose0) - (win - win0))))
    assert of(world, "dpo", beta=BETA) == pytest.approx(expected, rel=1e-5)


def test_undial_distils_from_lowered_logits_of_the_answer(world):
    labels = world.texts[FORGET].batch.labels
    now, before = (logits(world, p, FORGET) for p in (world.params, world.reference))

    def expected(index):
        lowered = before - BETA * np.eye(VOCABULARY)[index]
        wanted = np.exp(log_softmax(lowered, axis=-1))
        return -np.sum(wanted * log_softmax(now, axis=-1), axis=-1)

    answer = expected(np.maximum(labels, 0))[labels >= 0].mean()
    everything = expected(np.where(labels < 0, VOCABULARY - 100, labels)).mean()
    assert of(world, "undial", beta=BETA) == pytest.approx(answer, rel=1e-5)
    found = of(world, "undial", beta=BETA, flavour="open_unlearning")
    assert found == pytest.approx(everything, rel=1e-5)
    assert abs(answer - everything) > 0.01


def test_rmu_counts_padding_in_the_paper_and_answers_in_open_unlearning(world):
    steer, labels = steering(), world.texts[FORGET].batch.labels
    apart = np.square(states(world, world.params, FORGET) - np.asarray(steer.direction)).mean(-1)
    answer = np.where(labels >= 0, apart, np.nan)[:-1]
    answers = np.nanmean(answer, axis=1).mean()
    assert of(world, "rmu", steering=steer) == pytest.approx(apart.mean(), rel=1e-5)
    found = of(world, "rmu", steering=steer, flavour="open_unlearning")
    assert found == pytest.approx(answers, rel=1e-5)
    assert abs(answers - apart.mean()) > 1e-3


def test_rmu_keeps_the_states_of_retained_text(world):
    now, before = (states(world, p, RETAIN) for p in (world.params, world.reference))
    expected = np.square(now - before).mean()
    assert of(world, "keep_state", steering=steering()) == pytest.approx(expected, rel=1e-5)


def test_a_control_vector_has_its_scale_and_no_negative_entry():
    drawn = np.asarray(objectives.control(jax.random.key(0), 64, 6.5))
    assert np.linalg.norm(drawn) == pytest.approx(6.5, rel=1e-5)
    assert (drawn >= 0).all()


def test_divergence_of_answers_and_of_everything(world):
    labels = world.texts[RETAIN].batch.labels
    now, before = (
        log_softmax(logits(world, p, RETAIN), axis=-1) for p in (world.params, world.reference)
    )
    divergence = np.sum(np.exp(before) * (before - now), axis=-1)
    found = of(world, "keep_distribution")
    assert found == pytest.approx(divergence[labels >= 0].mean(), rel=1e-4)
    everywhere = of(world, "keep_distribution", flavour="open_unlearning")
    assert everywhere == pytest.approx(divergence.mean(), rel=1e-4)
    assert abs(found - everywhere) > 0.01


@pytest.mark.parametrize("name", OBJECTIVES)
def test_terms_of_parts_of_a_batch_add_up(world, name):
    """So the step may compute a batch in parts, or spread over devices."""
    kind = OBJECTIVES[name]
    settings = {"steering": steering()} if kind.steered else {}
    reference = world.reference if kind.reference else None
    texts = {text: world.texts[text] for text in kind.texts}

    def part(rows: slice):
        cut = {
            name: Text(jax.tree.map(lambda x: x[rows], text.batch)) for name, text in texts.items()
        }
        return kind.function(world.model, world.params, reference, cut, **settings)

    whole, first, rest = part(slice(None)), part(slice(2)), part(slice(2, None))
    assert first.sum + rest.sum == pytest.approx(float(whole.sum), rel=1e-4)
    assert first.count + rest.count == whole.count


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_finite(world, name):
    kind = OBJECTIVES[name]
    settings = {"steering": steering()} if kind.steered else {}

    def total(params):
        return kind.function(world.model, params, world.reference, world.texts, **settings).sum

    slopes = jax.jit(jax.grad(total))(world.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))


def test_chunks_of_tokens_change_nothing(world):
    def value(labels, now, before):
        return tokens.log_probability(labels, now) - tokens.log_probability(labels, before)

    models = (world.params, world.reference)
    found = [
        tokens.values(world.model, models, world.texts[FORGET], value, chunk)
        for chunk in (2, 4, 64)
    ]
    expected = losses(world, world.reference, FORGET) - losses(world, world.params, FORGET)
    for each in found:
        np.testing.assert_allclose(each, np.nan_to_num(expected), atol=2e-4)
