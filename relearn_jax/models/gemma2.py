"""Gemma 2: settings and weight names. The layers are in `gated`.

Unlike Gemma it has four norms in a block, soft caps on scores and logits, and windows in every
other layer, from the first on.
"""

from __future__ import annotations

import numpy as np

from relearn_jax.models import gated
from relearn_jax.models.family import Family, Row
from relearn_jax.models.gated import GLOBAL, LOCAL, Block, Decoder, Embed, Final
from relearn_jax.models.gemma import activation
from relearn_jax.models.heads import TokenClassifier
from relearn_jax.models.settings import Settings

SIZES = {
    "vocab_size": 256000, "hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 9216,
    "max_position_embeddings": 8192,
}  # fmt: skip


def parse(settings: Settings) -> Decoder:
    """Read `config.json`; raise UserError for settings whose computation is not built here."""
    settings.skip("sliding_window_size")
    width = settings.integer("hidden_size", SIZES["hidden_size"])
    return gated.parse(
        settings,
        activation(settings),
        tied=True,
        sizes=SIZES,
        embedding_scale=width**0.5,
        norm_offset=1.0,
        output_norms=True,
        score_scale=settings.number("query_pre_attn_scalar", 256) ** -0.5,
        score_cap=settings.limit("attn_logit_softcapping", 50.0),
        logit_cap=settings.limit("final_logit_softcapping", 30.0),
        windows=gated.windows(settings, SIZES["num_hidden_layers"], (LOCAL, GLOBAL)),
    )


FAMILY = Family(
    name="gemma2",
    parse=parse,
    embed=Embed,
    block=Block,
    final=lambda config, dtype: Final(config),
    classifier=lambda config, labels: TokenClassifier(labels, config.head_dropout),
    language_head=gated.language_head,
    table=(
        *gated.TABLE,
        Row(f"{gated.BLOCK}.post_attention_layernorm.weight", "blocks/attention_out_norm/scale"),
        Row(f"{gated.BLOCK}.pre_feedforward_layernorm.weight", "blocks/mlp_norm/scale"),
        Row(f"{gated.BLOCK}.post_feedforward_layernorm.weight", "blocks/mlp_out_norm/scale"),
    ),
    prefix="model.",
    ignored=gated.IGNORED,
    neurons={"mlp_unit": gated.MLP_UNIT},
    architectures={
        "token-classification": "Gemma2ForTokenClassification",
        "language-model": "Gemma2ForCausalLM",
        "backbone": "Gemma2Model",
    },
    causal=True,
    heads=gated.of_heads,
    windows=lambda config: np.array(config.windows, np.int32),
    tied=lambda config: config.tied,
)
