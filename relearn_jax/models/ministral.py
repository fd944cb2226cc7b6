"""Ministral: Llama's layers in `gated`; each sees either a window or all positions.

Without `layer_types` all layers see a window, as in Mistral.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from relearn_jax.models import gated, layers, llama
from relearn_jax.models.gated import LOCAL, Decoder
from relearn_jax.models.settings import Settings

SIZES = {
    "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 131072,
}  # fmt: skip


def parse(settings: Settings) -> Decoder:
    """Read `config.json`; raise UserError for settings whose computation is not built here."""
    activation = settings.choice("hidden_act", "silu", layers.ACTIVATIONS)
    windows = gated.windows(settings, SIZES["num_hidden_layers"], (LOCAL,))
    return gated.parse(settings, activation, tied=False, sizes=SIZES, windows=windows)


FAMILY = dataclasses.replace(
    llama.FAMILY,
    name="ministral",
    parse=parse,
    architectures={
        "token-classification": "MinistralForTokenClassification",
        "language-model": "MinistralForCausalLM",
        "backbone": "MinistralModel",
    },
    windows=lambda config: np.array(config.windows, np.int32),
)
