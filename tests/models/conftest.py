"""Tiny models of every family, from the golden files."""

from __future__ import annotations

import pytest
from parity import FAMILIES, golden_of, inputs, of_each, tagger


@pytest.fixture(params=FAMILIES)
def golden(request, tmp_path):
    """(folder, config, arrays)"""
    return tmp_path / "model", *golden_of(request.param)


@pytest.fixture(params=of_each(FAMILIES, "bert", "gemma2", "gpt_neox"))
def learned(request, tmp_path):
    """`golden`, for what takes gradients: families apart, the others in the slow tests."""
    return tmp_path / "model", *golden_of(request.param)


BLOCKS = ("bert", "gpt2", "llama", "gemma2", "gpt_neox")
"""DistilBERT shares BERT's layers, Gemma those of Llama."""


@pytest.fixture(scope="module", params=of_each(BLOCKS, "bert", "gemma2"))
def tiny(request, tmp_path_factory):
    """(model, parameters, inputs)"""
    config, arrays = golden_of(request.param)
    _, model, params = tagger(tmp_path_factory.mktemp("model"), config, arrays)
    return model, params, inputs(arrays)
