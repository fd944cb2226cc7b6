"""BERT (all-MiniLM-L6-v2 is one): settings and weight names. The layers are in `postnorm`."""

from __future__ import annotations

from relearn_jax.models import layers
from relearn_jax.models.family import Family, Row, linear, norm
from relearn_jax.models.heads import TokenClassifier
from relearn_jax.models.postnorm import NEURONS, Block, Embed, Encoder, MaskedLanguageHead
from relearn_jax.models.settings import Settings


def parse(settings: Settings) -> Encoder:
    """Read `config.json`; raise UserError for settings whose computation is not built here."""
    settings.require("position_embedding_type", "absolute")
    settings.require("is_decoder", False)
    settings.require("add_cross_attention", False)
    settings.require("tie_word_embeddings", True)
    settings.skip("pooler_*", "directionality")
    hidden = settings.number("hidden_dropout_prob", 0.1)
    return Encoder(
        vocabulary=settings.integer("vocab_size", 30522),
        width=settings.integer("hidden_size", 768),
        layers=settings.integer("num_hidden_layers", 12),
        heads=settings.integer("num_attention_heads", 12),
        mlp_width=settings.integer("intermediate_size", 3072),
        positions=settings.integer("max_position_embeddings", 512),
        kinds=settings.integer("type_vocab_size", 2),
        activation=settings.choice("hidden_act", "gelu", layers.ACTIVATIONS),
        epsilon=settings.number("layer_norm_eps", 1e-12),
        hidden_dropout=hidden,
        attention_dropout=settings.number("attention_probs_dropout_prob", 0.1),
        head_dropout=settings.number("classifier_dropout", None, hidden),
        padding_id=settings.integer("pad_token_id", 0),
    )


BLOCK = "encoder.layer.{l}"
TABLE = (
    Row("embeddings.word_embeddings.weight", "embed/word/embedding"),
    Row("embeddings.position_embeddings.weight", "embed/position/embedding"),
    Row("embeddings.token_type_embeddings.weight", "embed/kind/embedding"),
    *norm("embeddings.LayerNorm", "embed/norm"),
    *linear(f"{BLOCK}.attention.self.query", "blocks/query"),
    *linear(f"{BLOCK}.attention.self.key", "blocks/key"),
    *linear(f"{BLOCK}.attention.self.value", "blocks/value"),
    *linear(f"{BLOCK}.attention.output.dense", "blocks/attention_out"),
    *norm(f"{BLOCK}.attention.output.LayerNorm", "blocks/attention_norm"),
    *linear(f"{BLOCK}.intermediate.dense", "blocks/up"),
    *linear(f"{BLOCK}.output.dense", "blocks/down"),
    *norm(f"{BLOCK}.output.LayerNorm", "blocks/output_norm"),
    *linear("classifier", "head/classifier", prefixed=False),
    *linear("cls.predictions.transform.dense", "head/transform", prefixed=False),
    *norm("cls.predictions.transform.LayerNorm", "head/norm", prefixed=False),
    Row("cls.predictions.bias", "head/bias", prefixed=False),
)

FAMILY = Family(
    name="bert",
    parse=parse,
    embed=Embed,
    block=Block,
    final=None,
    classifier=lambda config, labels: TokenClassifier(labels, config.head_dropout),
    language_head=MaskedLanguageHead,
    table=TABLE,
    prefix="bert.",
    ignored=(
        r"embeddings\.position_ids",
        r"pooler\..*",
        r"cls\.seq_relationship\..*",
        r"cls\.predictions\.decoder\..*",
    ),
    neurons=NEURONS,
    architectures={
        "token-classification": "BertForTokenClassification",
        "language-model": "BertForMaskedLM",
        "backbone": "BertModel",
    },
)
