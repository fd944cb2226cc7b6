"""Blocks compute in bfloat16; what is kept, added up or exponentiated stays float32."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.config import Training
from relearn_jax.data.batching import TokenBatch
from relearn_jax.models import checkpoint, layers, transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Tap, Taps, everything
from relearn_jax.training import losses, optimizer
from relearn_jax.training.step import Round, start, train_step

SIZES = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "gemma2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
               "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 64},
    "gpt_neox": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "intermediate_size": 64},
}  # fmt: skip
RATES = Training(learning_rate=1e-3)


@pytest.fixture(
    scope="module",
    params=[
        ("bert", "token-classification"), ("gpt2", "language-model"), ("gemma2", "language-model"),
        *(pytest.param(case, marks=pytest.mark.slow) for case in (
            ("bert", "language-model"), ("gpt2", "token-classification"),
            ("gpt_neox", "language-model"),
        )),
    ],
    ids="-".join,
)  # fmt: skip
def case(request):
    """A bfloat16 model, its parameters and a batch."""
    family, task = request.param
    settings = {"model_type": family, "vocab_size": 300} | SIZES[family]
    ck = checkpoint.open_checkpoint("random", settings=settings)
    model = checkpoint.describe(ck, task, ("O", "B-LOC", "I-LOC"), "bfloat16", dropout=0.0)
    params, _ = checkpoint.load(ck, model, jax.random.key(0))
    rng = np.random.default_rng(0)
    inputs = Inputs(rng.integers(0, 300, (4, 12)), np.arange(12) < rng.integers(5, 13, (4, 1)))
    labels = np.where(inputs.mask, rng.integers(0, 3, (4, 12)), -100)
    return model, params, TokenBatch(inputs, labels, np.arange(4))


def float_types(tree):
    return {x.dtype.name for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)}


def task_loss(model, params, reference, texts):
    kinds = {
        "token-classification": losses.token_classification, "language-model": losses.next_token,
    }  # fmt: skip
    return kinds[model.task](model, params, reference, texts)


def total_and_count(model, batch, params):
    return tuple(losses.cross_entropy(model, params, losses.Text(batch)))


def test_a_step_keeps_everything_in_float32(case):
    model, params, batch = case
    direction = optimizer.direction(RATES)
    round_ = Round(optimizer.schedule(RATES, 10), jax.random.key(0))
    step = partial(train_step, partial(task_loss, model), direction)
    batches = {losses.TASK: batch}
    state, sums = jax.eval_shape(step, start(params, direction), batches, round_)
    total = partial(total_and_count, model, batch)
    (value, count), grads = jax.eval_shape(jax.value_and_grad(total, has_aux=True), params)
    for tree in (state.params, state.moments, grads, sums.loss, value, count):
        assert float_types(tree) == {"float32"}


def test_blocks_do_compute_in_bfloat16_and_heads_do_not(case):
    model, params, batch = case
    run = partial(transformer.apply, model, taps=Taps(states=Tap(everything), mlp=Tap(everything)))
    logits, taps = jax.eval_shape(run, params, batch.inputs)
    assert float_types(taps) == {"bfloat16"}
    assert logits.dtype == jnp.float32


def equations(jaxpr):
    """All equations of a program, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_exponentials_roots_and_logarithms_are_taken_in_float32(case):
    """Those of softmax, norms and losses; bfloat16 adds up to 256 and no further."""
    model, params, batch = case
    program = jax.make_jaxpr(partial(total_and_count, model, batch))(params)
    delicate = [e for e in equations(program.jaxpr) if e.primitive.name in ("exp", "log", "rsqrt")]
    assert len(delicate) >= 4
    assert float_types([e.invars[0].aval for e in delicate]) == {"float32"}


def test_attention_scores_are_not_rounded():
    """Scores of 256 and 257 are the same number in bfloat16; their weights are .27 and .73."""
    q = jnp.ones((1, 1, 1, 4), jnp.bfloat16)
    k = jnp.array([[128, 128, 128, 128], [128, 128, 128, 130]], jnp.bfloat16)[None, :, None]
    v = jnp.array([0, 1], jnp.bfloat16)[None, :, None, None]
    mixed = layers.attend(q, k, v, jnp.ones((1, 1, 1, 2), bool))
    np.testing.assert_allclose(mixed.astype(float).item(), 1 / (1 + np.exp(-1)), atol=0.01)


def test_the_loss_is_near_that_of_float32(case):
    model, params, batch = case
    exact = dataclasses.replace(model, dtype="float32")
    a, b = (jax.jit(partial(total_and_count, m))(batch, params)[0] for m in (exact, model))
    assert a != b
    np.testing.assert_allclose(a, b, rtol=2e-3)
