"""Llama 1 to 3.2: settings and weight names. The layers are in `gated`."""

from __future__ import annotations

from relearn_jax.models import gated, layers
from relearn_jax.models.family import Family, Row
from relearn_jax.models.gated import Block, Decoder, Embed, Final
from relearn_jax.models.heads import TokenClassifier
from relearn_jax.models.settings import Settings

SIZES = {
    "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "intermediate_size": 11008, "max_position_embeddings": 2048,
}  # fmt: skip


def parse(settings: Settings) -> Decoder:
    """Read `config.json`; raise UserError for settings whose computation is not built here."""
    activation = settings.choice("hidden_act", "silu", layers.ACTIVATIONS)
    return gated.parse(settings, activation, tied=False, sizes=SIZES)


FAMILY = Family(
    name="llama",
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
    neurons={"ln_gain": {"blocks/mlp_norm/scale": 1}, "mlp_unit": gated.MLP_UNIT},
    architectures={
        "token-classification": "LlamaForTokenClassification",
        "language-model": "LlamaForCausalLM",
        "backbone": "LlamaModel",
    },
    causal=True,
    heads=gated.of_heads,
    tied=lambda config: config.tied,
)
