"""DistilBERT: settings and weight names. The layers are in `postnorm`; there are no token types."""

from __future__ import annotations

from relearn_jax.models import layers
from relearn_jax.models.family import Family, Row, linear, norm
from relearn_jax.models.heads import TokenClassifier
from relearn_jax.models.postnorm import NEURONS, Block, Embed, Encoder, MaskedLanguageHead
from relearn_jax.models.settings import Settings


def parse(settings: Settings) -> Encoder:
    """Read `config.json`; sinusoidal positions are stored as weights, so that flag is ignored."""
    settings.require("tie_word_embeddings", True)
    settings.skip("sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout", "tie_weights_")
    hidden = settings.number("dropout", 0.1)
    return Encoder(
        vocabulary=settings.integer("vocab_size", 30522),
        width=settings.integer("dim", 768),
        layers=settings.integer("n_layers", 6),
        heads=settings.integer("n_heads", 12),
        mlp_width=settings.integer("hidden_dim", 3072),
        positions=settings.integer("max_position_embeddings", 512),
        kinds=0,
        activation=settings.choice("activation", "gelu", layers.ACTIVATIONS),
        epsilon=1e-12,
        hidden_dropout=hidden,
        attention_dropout=settings.number("attention_dropout", 0.1),
        head_dropout=hidden,
        padding_id=settings.integer("pad_token_id", 0),
    )


BLOCK = "transformer.layer.{l}"
TABLE = (
    Row("embeddings.word_embeddings.weight", "embed/word/embedding"),
    Row("embeddings.position_embeddings.weight", "embed/position/embedding"),
    *norm("embeddings.LayerNorm", "embed/norm"),
    *linear(f"{BLOCK}.attention.q_lin", "blocks/query"),
    *linear(f"{BLOCK}.attention.k_lin", "blocks/key"),
    *linear(f"{BLOCK}.attention.v_lin", "blocks/value"),
    *linear(f"{BLOCK}.attention.out_lin", "blocks/attention_out"),
    *norm(f"{BLOCK}.sa_layer_norm", "blocks/attention_norm"),
    *linear(f"{BLOCK}.ffn.lin1", "blocks/up"),
    *linear(f"{BLOCK}.ffn.lin2", "blocks/down"),
    *norm(f"{BLOCK}.output_layer_norm", "blocks/output_norm"),
    *linear("classifier", "head/classifier", prefixed=False),
    *linear("vocab_transform", "head/transform", prefixed=False),
    *norm("vocab_layer_norm", "head/norm", prefixed=False),
    Row("vocab_projector.bias", "head/bias", prefixed=False),
)

FAMILY = Family(
    name="distilbert",
    parse=parse,
    embed=Embed,
    block=Block,
    final=None,
    classifier=lambda config, labels: TokenClassifier(labels, config.head_dropout),
    language_head=MaskedLanguageHead,
    table=TABLE,
    prefix="distilbert.",
    ignored=(r"embeddings\.position_ids", r"vocab_projector\.weight"),
    neurons=NEURONS,
    architectures={
        "token-classification": "DistilBertForTokenClassification",
        "language-model": "DistilBertForMaskedLM",
        "backbone": "DistilBertModel",
    },
)
