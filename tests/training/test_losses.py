"""Laws of the losses: chunks change neither value nor gradient, and spare memory."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.data.batching import TokenBatch
from relearn_jax.models import checkpoint, transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.training import losses

VOCABULARY, WIDTH = 4096, 16


@pytest.fixture(scope="module")
def projection():
    """Words [V, D], last states [B, T, D] and labels, some of them none."""
    rng = np.random.default_rng(0)
    labels = rng.integers(-100, VOCABULARY, (4, 50))
    words, states = (
        rng.normal(size=s).astype(np.float32) for s in ((VOCABULARY, WIDTH), (4, 50, WIDTH))
    )
    return words, states, np.where(labels < 0, -100, labels)


def logits(words, h):
    return jnp.einsum("BTD,VD->BTV", h, words)


def plain(words, h, labels):
    return tuple(losses.token_loss(logits(words, h), labels))


def chunked(chunk, words, h, labels):
    return tuple(losses.chunked_token_loss(partial(logits, words), h, labels, chunk))


def slopes(f, projection):
    return jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(*projection)


@pytest.fixture(scope="module")
def whole(projection):
    return slopes(plain, projection)


@pytest.mark.parametrize("chunk", [1, 16, 25, 50, 64])
def test_chunks_change_neither_loss_nor_gradient(projection, whole, chunk):
    """Also where they do not divide the tokens, or are longer than all of them."""
    a, b = whole, slopes(partial(chunked, chunk), projection)
    chex.assert_trees_all_close(a, b, rtol=1e-6, atol=1e-6)


def test_chunks_need_less_memory_forward_and_backward(projection):
    def temporary(f):
        step = jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))
        return step.lower(*projection).compile().memory_analysis().temp_size_in_bytes

    whole = 4 * 50 * VOCABULARY * 4
    assert temporary(plain) >= whole
    assert temporary(partial(chunked, 5)) < whole / 3


def test_next_tokens_follow_real_ones_only():
    inputs = Inputs(np.array([[5, 6, 7, 0], [8, 0, 0, 0]]), np.array([[1, 1, 1, 0], [1, 0, 0, 0]]))
    inputs = inputs._replace(mask=inputs.mask.astype(bool))
    wanted = [[6, 7, -100, -100], [-100] * 4]
    np.testing.assert_array_equal(losses.next_tokens(inputs), wanted)


@pytest.fixture(params=["bert", "gpt2"])
def decoder(request):
    """A small language model and its parameters."""
    sizes = {
        "bert": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    }[request.param]
    ck = checkpoint.open_checkpoint(
        "random", settings={"model_type": request.param, "vocab_size": 300, **sizes}
    )
    model = checkpoint.describe(ck, "language-model")
    return model, checkpoint.load(ck, model, jax.random.key(0))[0]


def test_a_language_models_loss_is_that_of_its_logits(decoder):
    model, params = decoder
    rng = np.random.default_rng(0)
    inputs = Inputs(rng.integers(0, 300, (2, 40)), np.arange(40) < np.array([[40], [13]]))
    batch = TokenBatch(inputs, losses.next_tokens(inputs), np.arange(2))

    keys = jax.random.split(jax.random.key(1), 2)

    def whole(params):
        logits = transformer.apply(model, params, inputs, keys=keys)[0]
        return tuple(losses.token_loss(logits, batch.labels))

    def of_model(params):
        texts = {losses.TASK: losses.Text(batch, keys)}
        return tuple(losses.next_token(model, params, None, texts)[losses.TASK])

    a, b = (jax.jit(jax.value_and_grad(f, has_aux=True))(params) for f in (whole, of_model))
    chex.assert_trees_all_close(a, b, rtol=1e-6, atol=1e-5)


def test_logits_of_labelled_tokens_alone_give_the_same_loss_and_gradient(decoder):
    """Rows with a label, with one at another place, and padding rows without any."""
    model, params = decoder
    rng = np.random.default_rng(0)
    inputs = Inputs(rng.integers(0, 300, (4, 9)), np.ones((4, 9), bool))
    labels = np.full((4, 9), -100)
    labels[[0, 1, 2], [8, 3, 0]] = rng.integers(0, 300, 3)
    text = losses.Text(TokenBatch(inputs, labels, np.arange(4)))

    def of(count):
        def mean(params):
            return losses.cross_entropy(model, params, text._replace(labelled=count)).mean

        return jax.jit(jax.value_and_grad(mean))(params)

    chex.assert_trees_all_close(of(1), of(None), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(of(2), of(None), rtol=1e-5, atol=1e-6)


def test_the_first_labelled_tokens_are_taken_in_order():
    h = np.arange(2 * 4 * 1).reshape(2, 4, 1).astype(np.float32)
    labels = np.array([[-100, 5, -100, 6], [-100, -100, -100, 7]])
    states, found = losses.first_labelled(h, labels, 2)
    np.testing.assert_array_equal(found, [[5, 6], [7, -100]])
    np.testing.assert_array_equal(states[..., 0], [[1, 3], [7, 4]])
