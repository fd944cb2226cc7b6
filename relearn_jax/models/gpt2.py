"""GPT-2 and DistilGPT2: pre-norm decoder, fused query-key-value, tied output.

Hidden state 0 is word plus position embedding; states 1..L-1 are the residual stream after a
block; state L is the stream after the last block *and* the final norm, as Hugging Face returns it.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from relearn_jax.models import layers
from relearn_jax.models.family import Family, Row, conv1d, linear, norm, owned
from relearn_jax.models.heads import LanguageHead, LayerNorm, TokenClassifier
from relearn_jax.models.inputs import Inputs, Past, RowKeys
from relearn_jax.models.settings import Settings
from relearn_jax.models.sites import Inside, Sites, touch


@dataclass(frozen=True)
class Decoder:
    """Sizes and settings of GPT-2."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    positions: int
    activation: str
    epsilon: float
    embedding_dropout: float
    attention_dropout: float
    hidden_dropout: float
    head_dropout: float


def parse(settings: Settings) -> Decoder:
    """Read `config.json`; raise UserError for settings whose computation is not built here."""
    settings.require("scale_attn_weights", True)
    settings.require("scale_attn_by_inverse_layer_idx", False)
    settings.require("add_cross_attention", False)
    settings.require("tie_word_embeddings", True)
    settings.skip("n_ctx", "reorder_and_upcast_attn", "summary_*", "hidden_dropout")
    width = settings.integer("n_embd", 768)
    return Decoder(
        vocabulary=settings.integer("vocab_size", 50257),
        width=width,
        layers=settings.integer("n_layer", 12),
        heads=settings.integer("n_head", 12),
        mlp_width=settings.integer("n_inner", None) or 4 * width,
        positions=settings.integer("n_positions", 1024),
        activation=settings.choice("activation_function", "gelu_new", layers.ACTIVATIONS),
        epsilon=settings.number("layer_norm_epsilon", 1e-5),
        embedding_dropout=settings.number("embd_pdrop", 0.1),
        attention_dropout=settings.number("attn_pdrop", 0.1),
        hidden_dropout=settings.number("resid_pdrop", 0.1),
        head_dropout=settings.number("classifier_dropout", None, 0.1),
    )


def of_heads(config: Decoder) -> dict[str, tuple[int, np.ndarray]]:
    """The columns and rows that each head owns."""
    width = config.width // config.heads
    return {
        "blocks/qkv/kernel": (2, owned(config.heads, width, copies=3)),
        "blocks/attention_out/kernel": (1, owned(config.heads, width)),
    }


class Embed(nn.Module):
    """Word plus learned position embedding."""

    config: Decoder
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Inputs, keys: RowKeys | None) -> Float[Array, "B T D"]:
        c = self.config
        x = nn.Embed(c.vocabulary, c.width, embedding_init=layers.INIT, name="word")(inputs.ids)
        table = nn.Embed(c.positions, c.width, embedding_init=layers.INIT, name="position")
        x = (x + table(jnp.arange(inputs.ids.shape[1]))[None]).astype(self.dtype)
        return layers.dropout(x, c.embedding_dropout, keys)


class Block(nn.Module):
    """Norm, causal attention, norm, feed-forward; both outputs are added to the stream."""

    config: Decoder
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "B T D"],
        inputs: Inputs,
        row: Sites,
        keys: RowKeys | None,
        past: Past | None = None,
    ) -> tuple[Float[Array, "B T D"], Inside]:
        c = self.config
        for_weights, for_attention, for_mlp = layers.split(keys, 3)

        x = layers.layer_norm(h, c.epsilon, "attention_norm")
        qkv = layers.Dense(3 * c.width, self.dtype, name="qkv")(x)
        q, k, v = (
            touch(layers.heads(part, c.heads), site)
            for part, site in zip(
                jnp.split(qkv, 3, axis=-1), (row.queries, row.keys, row.values), strict=True
            )
        )
        all_k, all_v = layers.after(past, k, v)
        allowed = layers.causal(q, all_k) & inputs.mask[:, None, None, :]
        z = layers.attend(q, all_k, all_v, allowed, c.attention_dropout, for_weights)
        z = touch(z, row.heads)
        x = layers.Dense(c.width, self.dtype, name="attention_out")(layers.joined(z))
        attention = touch(layers.dropout(x, c.hidden_dropout, for_attention), row.attention)
        h = h + attention

        read = touch(layers.layer_norm(h, c.epsilon, "mlp_norm"), row.mlp_in)
        x = layers.Dense(c.mlp_width, self.dtype, name="up")(read)
        neurons = touch(layers.ACTIVATIONS[c.activation](x), row.mlp)
        x = layers.Dense(c.width, self.dtype, name="down")(neurons)
        out = touch(layers.dropout(x, c.hidden_dropout, for_mlp), row.mlp_out)
        return h + out, Inside(q, k, v, z, attention, read, neurons, out)


TABLE = (
    Row("wte.weight", "embed/word/embedding"),
    Row("wpe.weight", "embed/position/embedding"),
    *norm("h.{l}.ln_1", "blocks/attention_norm"),
    *conv1d("h.{l}.attn.c_attn", "blocks/qkv"),
    *conv1d("h.{l}.attn.c_proj", "blocks/attention_out"),
    *norm("h.{l}.ln_2", "blocks/mlp_norm"),
    *conv1d("h.{l}.mlp.c_fc", "blocks/up"),
    *conv1d("h.{l}.mlp.c_proj", "blocks/down"),
    *norm("ln_f", "final/norm"),
    *linear("classifier", "head/classifier", prefixed=False),
)

FAMILY = Family(
    name="gpt2",
    parse=parse,
    embed=Embed,
    block=Block,
    final=lambda config, dtype: LayerNorm(config.epsilon),
    classifier=lambda config, labels: TokenClassifier(labels, config.head_dropout),
    language_head=lambda config, dtype: LanguageHead(),
    table=TABLE,
    prefix="transformer.",
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias)", r"lm_head\.weight"),
    neurons={
        "ln_gain": {"blocks/mlp_norm/scale": 1},
        "ln_gain_bias": {"blocks/mlp_norm/scale": 1, "blocks/mlp_norm/bias": 1},
        "mlp_unit": {"blocks/up/kernel": 2, "blocks/up/bias": 1, "blocks/down/kernel": 1},
    },
    architectures={
        "token-classification": "GPT2ForTokenClassification",
        "language-model": "GPT2LMHeadModel",
        "backbone": "GPT2Model",
    },
    causal=True,
    heads=of_heads,
)
