"""Tiny models of every family, from the golden files."""

from __future__ import annotations

import pytest
from parity import FAMILIES, golden_of, inputs, tagger


@pytest.fixture(params=FAMILIES)
def golden(request, tmp_path):
    """(folder, config, arrays)"""
    return tmp_path / "model", *golden_of(request.param)


@pytest.fixture(scope="module", params=["bert", "gpt2", "llama", "gemma2", "gpt_neox"])
def tiny(request, tmp_path_factory):
    """(model, parameters, inputs); DistilBERT shares BERT's layers, Gemma those of Llama."""
    config, arrays = golden_of(request.param)
    _, model, params = tagger(tmp_path_factory.mktemp("model"), config, arrays)
    return model, params, inputs(arrays)
