"""Gemma: settings and weight names. The layers are in `gated`.

Norms store their gain minus 1, so a stored 0 does not prune a neuron: there is no target `ln_gain`.
"""

from __future__ import annotations

from relearn_jax.models import gated
from relearn_jax.models.family import Family, Row
from relearn_jax.models.gated import Block, Decoder, Embed, Final
from relearn_jax.models.heads import TokenClassifier
from relearn_jax.models.settings import Settings

SIZES = {
    "vocab_size": 256000, "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 16, "head_dim": 256, "intermediate_size": 24576,
    "max_position_embeddings": 8192,
}  # fmt: skip
TANH_GELU = "gelu_pytorch_tanh"


def activation(settings: Settings) -> str:
    """The tanh GELU, which is also the meaning of `hidden_act: gelu` in the first releases."""
    settings.choice("hidden_act", TANH_GELU, ("gelu", TANH_GELU))
    return settings.choice("hidden_activation", TANH_GELU, (TANH_GELU,))


def parse(settings: Settings) -> Decoder:
    """Read `config.json`; raise UserError for settings whose computation is not built here."""
    width = settings.integer("hidden_size", SIZES["hidden_size"])
    return gated.parse(
        settings,
        activation(settings),
        tied=True,
        sizes=SIZES,
        embedding_scale=width**0.5,
        norm_offset=1.0,
    )


FAMILY = Family(
    name="gemma",
    parse=parse,
    embed=Embed,
    block=Block,
    final=lambda config, dtype: Final(config),
    classifier=lambda config, labels: TokenClassifier(labels, config.head_dropout),
    language_head=gated.language_head,
    table=(
        *gated.TABLE,
        Row(f"{gated.BLOCK}.post_attention_layernorm.weight", "blocks/mlp_norm/scale"),
    ),
    prefix="model.",
    ignored=gated.IGNORED,
    neurons={"mlp_unit": gated.MLP_UNIT},
    architectures={
        "token-classification": "GemmaForTokenClassification",
        "language-model": "GemmaForCausalLM",
        "backbone": "GemmaModel",
    },
    causal=True,
    heads=gated.of_heads,
    tied=lambda config: config.tied,
)
