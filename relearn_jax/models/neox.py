"""GPT-NeoX and Pythia: layer norms, rotary positions on a part of each head, attention and
feed-forward in parallel or in turn. Query, key and value are fused, side by side for each head.

Hidden state 0 is the word embedding; states 1..L-1 are the residual stream after a block; state L
is the stream after the last block *and* the final norm, as Hugging Face returns it.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from relearn_jax.models import layers, rotary
from relearn_jax.models.family import Family, Row, linear, norm, owned
from relearn_jax.models.heads import LanguageHead, LayerNorm, TokenClassifier
from relearn_jax.models.inputs import Inputs, Past, RowKeys
from relearn_jax.models.rotary import Rope
from relearn_jax.models.settings import Settings
from relearn_jax.models.sites import Inside, Sites, touch


@dataclass(frozen=True)
class Decoder:
    """Sizes and settings of GPT-NeoX."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    positions: int
    activation: str
    epsilon: float
    rope: Rope
    parallel: bool
    """Whether the feed-forward layer reads the state before attention, not after it."""
    tied: bool
    attention_dropout: float
    hidden_dropout: float
    head_dropout: float


def parse(settings: Settings) -> Decoder:
    """Read `config.json`; raise UserError for settings whose computation is not built here."""
    settings.require("attention_bias", True)
    settings.require("is_decoder", False)
    width = settings.integer("hidden_size", 6144)
    heads = settings.integer("num_attention_heads", 64)
    return Decoder(
        vocabulary=settings.integer("vocab_size", 50432),
        width=width,
        layers=settings.integer("num_hidden_layers", 44),
        heads=heads,
        mlp_width=settings.integer("intermediate_size", 24576),
        positions=settings.integer("max_position_embeddings", 2048),
        activation=settings.choice("hidden_act", "gelu", layers.ACTIVATIONS),
        epsilon=settings.number("layer_norm_eps", 1e-5),
        rope=rotary.parse(settings, width // heads, theta="rotary_emb_base", share="rotary_pct"),
        parallel=settings.flag("use_parallel_residual", True),
        tied=settings.flag("tie_word_embeddings", False),
        attention_dropout=settings.number("attention_dropout", 0.0),
        hidden_dropout=settings.number("hidden_dropout", 0.0),
        head_dropout=settings.number("classifier_dropout", 0.1),
    )


def of_heads(config: Decoder) -> dict[str, tuple[int, np.ndarray]]:
    """The columns and rows that each head owns."""
    width = config.width // config.heads
    return {
        "blocks/qkv/kernel": (2, owned(config.heads, 3 * width)),
        "blocks/attention_out/kernel": (1, owned(config.heads, width)),
    }


class Embed(nn.Module):
    """Word embedding."""

    config: Decoder
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Inputs, keys: RowKeys | None) -> Float[Array, "B T D"]:
        c = self.config
        x = nn.Embed(c.vocabulary, c.width, embedding_init=layers.INIT, name="word")(inputs.ids)
        return layers.dropout(x.astype(self.dtype), c.hidden_dropout, keys)


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
        qkv = layers.heads(layers.Dense(3 * c.width, self.dtype, name="qkv")(x), c.heads)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        radians = rotary.frequencies(c.rope, c.width // c.heads)
        first = 0 if past is None else past.keys.shape[1]
        q = touch(rotary.rotate(q, radians, first), row.queries)
        k = touch(rotary.rotate(k, radians, first), row.keys)
        v = touch(v, row.values)
        all_k, all_v = layers.after(past, k, v)
        allowed = layers.causal(q, all_k) & inputs.mask[:, None, None, :]
        z = layers.attend(q, all_k, all_v, allowed, c.attention_dropout, for_weights)
        z = touch(z, row.heads)
        x = layers.Dense(c.width, self.dtype, name="attention_out")(layers.joined(z))
        attention = touch(layers.dropout(x, c.hidden_dropout, for_attention), row.attention)

        stream = h if c.parallel else h + attention
        read = touch(layers.layer_norm(stream, c.epsilon, "mlp_norm"), row.mlp_in)
        x = layers.Dense(c.mlp_width, self.dtype, name="up")(read)
        neurons = touch(layers.ACTIVATIONS[c.activation](x), row.mlp)
        x = layers.Dense(c.width, self.dtype, name="down")(neurons)
        out = touch(layers.dropout(x, c.hidden_dropout, for_mlp), row.mlp_out)
        return h + attention + out, Inside(q, k, v, z, attention, read, neurons, out)


BLOCK = "layers.{l}"
TABLE = (
    Row("embed_in.weight", "embed/word/embedding"),
    *norm(f"{BLOCK}.input_layernorm", "blocks/attention_norm"),
    *linear(f"{BLOCK}.attention.query_key_value", "blocks/qkv"),
    *linear(f"{BLOCK}.attention.dense", "blocks/attention_out"),
    *norm(f"{BLOCK}.post_attention_layernorm", "blocks/mlp_norm"),
    *linear(f"{BLOCK}.mlp.dense_h_to_4h", "blocks/up"),
    *linear(f"{BLOCK}.mlp.dense_4h_to_h", "blocks/down"),
    *norm("final_layer_norm", "final/norm"),
    *linear("classifier", "head/classifier", prefixed=False),
    Row("embed_out.weight", "head/word/embedding", prefixed=False),
)

FAMILY = Family(
    name="gpt_neox",
    parse=parse,
    embed=Embed,
    block=Block,
    final=lambda config, dtype: LayerNorm(config.epsilon),
    classifier=lambda config, labels: TokenClassifier(labels, config.head_dropout),
    language_head=lambda config, dtype: LanguageHead(),
    table=TABLE,
    prefix="gpt_neox.",
    ignored=(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
    neurons={
        "ln_gain": {"blocks/mlp_norm/scale": 1},
        "ln_gain_bias": {"blocks/mlp_norm/scale": 1, "blocks/mlp_norm/bias": 1},
        "mlp_unit": {"blocks/up/kernel": 2, "blocks/up/bias": 1, "blocks/down/kernel": 1},
    },
    architectures={
        "token-classification": "GPTNeoXForTokenClassification",
        "language-model": "GPTNeoXForCausalLM",
        "backbone": "GPTNeoXModel",
    },
    causal=True,
    heads=of_heads,
    tied=lambda config: config.tied,
)
