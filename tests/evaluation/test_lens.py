"""The lens on the last state is the model's own answer, and earlier states get the final norm."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from relearn_jax.evaluation import lens
from relearn_jax.models import checkpoint, transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Tap, Taps, everything

SETTINGS = {
    "model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def read():
    ck = checkpoint.open_checkpoint("random", settings=SETTINGS)
    model = checkpoint.describe(ck, "language-model")
    params = jax.tree.map(lambda x: 4 * x, checkpoint.load(ck, model, jax.random.key(0))[0])
    inputs = Inputs(np.arange(12).reshape(3, 4), np.ones((3, 4), bool))
    logits, readings = transformer.apply(model, params, inputs, taps=Taps(states=Tap(everything)))
    states = np.asarray(readings.states)[:, :, -1]
    return model, params, states, np.asarray(jax.nn.softmax(logits[:, -1]))


def test_the_last_state_gives_the_answer(read):
    model, params, states, probabilities = read
    words = np.array([[1, 5], [2, -1], [3, 39]])
    found = lens.probabilities(model, params, states, words)[-1]
    expected = np.take_along_axis(probabilities, np.maximum(words, 0), 1)
    np.testing.assert_allclose(found, np.where(words < 0, 0, expected), rtol=1e-5)


def test_earlier_states_get_the_final_norm(read):
    """Scaling a state changes nothing, as the norm takes its size away."""
    model, params, states, _ = read
    words = np.array([[1, 5], [2, 4], [3, 39]])
    once, twice = (lens.probabilities(model, params, k * states, words)[:-1] for k in (1, 3))
    np.testing.assert_allclose(once, twice, rtol=1e-3)
    assert not np.allclose(once[0], once[-1], rtol=1e-2)
