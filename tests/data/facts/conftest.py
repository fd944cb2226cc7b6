"""Tokenizers and worlds for the tests of facts."""

from __future__ import annotations

import pytest

from relearn_jax.config import World
from relearn_jax.data.facts import world
from relearn_jax.data.tokenizer import load_tokenizer


@pytest.fixture(scope="session")
def gpt2_text(shared):
    """GPT-2's tokenizer for whole texts."""
    return load_tokenizer(shared / "data/tokenizer-gpt2", words=False)


@pytest.fixture(scope="session")
def natural():
    return world.make(World(names=16, degree=6), seed=0)


@pytest.fixture(scope="session")
def planted():
    return world.make(World(names=12, degree=9, variant="planted"), seed=0)
