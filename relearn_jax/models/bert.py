"""BERT (all-MiniLM-L6-v2 is one): settings and weight names. The layers are in `postnorm`."""

from __future__ import annotations

from relearn_jax.models import layers
from relearn_jax.models.family import Family, Row
from relearn_jax.models.heads import TokenClassifier
from relearn_jax.models.postnorm import NEURONS, Block, Embed, Encoder, MaskedLanguageHead
from relearn_jax.models.settings import Settings


def parse(settings: Settings) -> Encoder:
    """Read `config.json`; refuse what would change the computation in a way not built here."""
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


TABLE = (
    Row("embeddings.word_embeddings.weight", "embed/word/embedding"),
    Row("embeddings.position_embeddings.weight", "embed/position/embedding"),
    Row("embeddings.token_type_embeddings.weight", "embed/kind/embedding"),
    Row("embeddings.LayerNorm.weight", "embed/norm/scale"),
    Row("embeddings.LayerNorm.bias", "embed/norm/bias"),
    *(
        row
        for theirs, ours in (
            ("attention.self.query", "query"),
            ("attention.self.key", "key"),
            ("attention.self.value", "value"),
            ("attention.output.dense", "attention_out"),
            ("intermediate.dense", "up"),
            ("output.dense", "down"),
        )
        for row in (
            Row(f"encoder.layer.{{l}}.{theirs}.weight", f"blocks/{ours}/kernel", "transpose"),
            Row(f"encoder.layer.{{l}}.{theirs}.bias", f"blocks/{ours}/bias"),
        )
    ),
    *(
        Row(f"encoder.layer.{{l}}.{theirs}.LayerNorm.{w}", f"blocks/{ours}/{leaf}")
        for theirs, ours in (("attention.output", "attention_norm"), ("output", "output_norm"))
        for w, leaf in (("weight", "scale"), ("bias", "bias"))
    ),
    Row("classifier.weight", "head/classifier/kernel", "transpose", prefixed=False),
    Row("classifier.bias", "head/classifier/bias", prefixed=False),
    Row("cls.predictions.transform.dense.weight", "head/transform/kernel", "transpose", False),
    Row("cls.predictions.transform.dense.bias", "head/transform/bias", prefixed=False),
    Row("cls.predictions.transform.LayerNorm.weight", "head/norm/scale", prefixed=False),
    Row("cls.predictions.transform.LayerNorm.bias", "head/norm/bias", prefixed=False),
    Row("cls.predictions.bias", "head/bias", prefixed=False),
)

FAMILY = Family(
    name="bert",
    parse=parse,
    embed=Embed,
    block=Block,
    final=None,
    classifier=lambda config, labels, dtype: TokenClassifier(labels, config.head_dropout, dtype),
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
