"""A small random decoder with two runs of it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.localize import questions
from relearn_jax.localize.questions import Question
from relearn_jax.models import checkpoint, transformer
from relearn_jax.models.inputs import Inputs


class Pair(NamedTuple):
    """Two prompts of equal length for each question: `clean` has the fact, `corrupt` lacks it."""

    clean: Inputs
    corrupt: Inputs
    question: Question


SIZES = {"model_type": "gpt2", "vocab_size": 60, "n_embd": 32, "n_layer": 3, "n_head": 4}
LENGTHS = (9, 7, 9, 8)
FIRST, LAST = 2, 3
"""The subject's tokens; all before are the same in clean and corrupt prompts."""


@pytest.fixture(scope="session")
def decoder():
    """(model, parameters); weights large enough that every place matters."""
    opened = checkpoint.open_checkpoint("random", settings=SIZES)
    model = checkpoint.describe(opened, "language-model", dropout=0.0)
    params = jax.jit(partial(transformer.init, model))(jax.random.key(0))
    return model, jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, params)


@pytest.fixture(scope="session")
def pair():
    rng = np.random.default_rng(0)
    length = max(LENGTHS)
    mask = np.arange(length) < np.array(LENGTHS)[:, None]
    clean = rng.integers(2, 60, (len(LENGTHS), length))
    clean[:, :FIRST] = clean[0, :FIRST]
    corrupt = clean.copy()
    corrupt[:, FIRST : LAST + 1] = rng.integers(2, 60, (len(LENGTHS), LAST + 1 - FIRST))
    subject = np.zeros_like(mask)
    subject[:, FIRST : LAST + 1] = True
    words = np.array([[3, 4, 5], [4, 5, -1], [5, 3, 4], [3, 5, -1]])
    question = Question(jnp.array(LENGTHS) - 1, jnp.array(words), jnp.array(subject))
    return Pair(
        *(Inputs(jnp.array(ids * mask), jnp.array(mask)) for ids in (clean, corrupt)), question
    )


@pytest.fixture(scope="session")
def runs(decoder, pair):
    """(clean run, corrupt run)"""
    return tuple(
        questions.run(*decoder, inputs, pair.question) for inputs in (pair.clean, pair.corrupt)
    )
