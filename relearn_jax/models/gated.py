"""The decoder of Llama, Gemma and Gemma 2: RMS norms, rotary positions, a gated feed-forward layer.
These families differ in values of `Decoder`.

Hidden state 0 is the (scaled) word embedding; states 1..L-1 are the residual stream after a block;
state L is the stream after the last block *and* the final norm, as Hugging Face returns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from relearn_jax.errors import UserError
from relearn_jax.models import layers, rotary
from relearn_jax.models.family import Row, linear, matrix, owned
from relearn_jax.models.heads import LanguageHead
from relearn_jax.models.inputs import Inputs, Past, RowKeys
from relearn_jax.models.rotary import Rope
from relearn_jax.models.settings import Settings
from relearn_jax.models.sites import Inside, Sites, touch

LOCAL, GLOBAL = "sliding_attention", "full_attention"
EVERYTHING = int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class Decoder:
    """Sizes and settings of a gated decoder."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    """Heads of keys and values; each serves heads / kv_heads query heads."""
    head_width: int
    mlp_width: int
    positions: int
    activation: str
    epsilon: float
    rope: Rope
    tied: bool
    """Whether the language head multiplies with the word embedding."""
    attention_dropout: float
    head_dropout: float
    embedding_scale: float = 1.0
    norm_offset: float = 0.0
    """Added to the stored gains of norms."""
    output_norms: bool = False
    """Whether the outputs of attention and feed-forward layer are normed too."""
    score_scale: float | None = None
    """Factor of attention scores; None: 1/sqrt(head_width)."""
    score_cap: float | None = None
    logit_cap: float | None = None
    windows: tuple[int, ...] = ()
    """Number of positions that each layer sees; empty: all layers see all positions."""


def parse(
    settings: Settings, activation: str, tied: bool, sizes: Mapping[str, int], **own: Any
) -> Decoder:
    """Read the settings in `config.json` that all families here share.

    Args:
      settings: settings of the file.
      activation: activation of the gate.
      tied, sizes: the family's defaults for absent keys.
      own: fields of `Decoder` that the family has read itself.
    """
    settings.require("attention_bias", False)
    settings.require("mlp_bias", False)
    settings.require("use_bidirectional_attention", False)
    # Both only changed how a product was split over devices.
    settings.skip("pretraining_tp", "max_sequence_length")
    width = settings.integer("hidden_size", sizes["hidden_size"])
    heads = settings.integer("num_attention_heads", sizes["num_attention_heads"])
    kv_heads = settings.integer("num_key_value_heads", sizes.get("num_key_value_heads", heads))
    head_width = settings.integer("head_dim", sizes.get("head_dim", width // heads))
    if heads % kv_heads:
        raise UserError(
            f"{settings.origin}: {heads} attention heads cannot share {kv_heads} key-value heads "
            "evenly"
        )
    return Decoder(
        vocabulary=settings.integer("vocab_size", sizes["vocab_size"]),
        width=width,
        layers=settings.integer("num_hidden_layers", sizes["num_hidden_layers"]),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        mlp_width=settings.integer("intermediate_size", sizes["intermediate_size"]),
        positions=settings.integer("max_position_embeddings", sizes["max_position_embeddings"]),
        activation=activation,
        epsilon=settings.number("rms_norm_eps", 1e-6),
        rope=rotary.parse(settings, head_width),
        tied=settings.flag("tie_word_embeddings", tied),
        attention_dropout=settings.number("attention_dropout", 0.0),
        head_dropout=settings.number("classifier_dropout", None, 0.1),
        **own,
    )


def of_heads(config: Decoder) -> dict[str, tuple[int, np.ndarray]]:
    """The columns and rows that each head owns; heads of a group share keys and values."""
    entries = owned(config.heads, config.head_width)
    shared = owned(config.heads, config.head_width, config.kv_heads)
    return {
        "blocks/query/kernel": (2, entries),
        "blocks/key/kernel": (2, shared),
        "blocks/value/kernel": (2, shared),
        "blocks/attention_out/kernel": (1, entries),
    }


def windows(settings: Settings, layers: int, kinds: tuple[str, ...]) -> tuple[int, ...]:
    """Number of positions that each layer sees; `kinds` are used in turn without `layer_types`."""
    count = settings.integer("num_hidden_layers", layers)
    window = int(settings.limit("sliding_window", 4096) or EVERYTHING)
    layer_kinds = settings.names("layer_types") or tuple(
        kinds[i % len(kinds)] for i in range(count)
    )
    if len(layer_kinds) != count or not set(layer_kinds) <= {LOCAL, GLOBAL}:
        raise UserError(
            f"{settings.origin}: layer_types should be {count} times {LOCAL} or {GLOBAL}, "
            f"not {list(layer_kinds)}"
        )
    return tuple(window if kind == LOCAL else EVERYTHING for kind in layer_kinds)


class Embed(nn.Module):
    """Word embedding, scaled by `embedding_scale`."""

    config: Decoder
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Inputs, keys: RowKeys | None) -> Float[Array, "B T D"]:
        c = self.config
        x = nn.Embed(c.vocabulary, c.width, embedding_init=layers.INIT, name="word")(inputs.ids)
        # The scale is rounded to the compute dtype, as in the training of these models.
        return x.astype(self.dtype) * jnp.asarray(c.embedding_scale, self.dtype)


class Block(nn.Module):
    """Norm, causal attention, norm, gated feed-forward; both outputs are added to the stream."""

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
        window: Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "B T D"], Inside]:
        c = self.config
        norm = partial(layers.RMSNorm, c.epsilon, c.norm_offset)
        dense = partial(layers.Dense, dtype=self.dtype, bias=False)

        x = norm(name="attention_norm")(h)
        q = layers.heads(dense(c.heads * c.head_width, name="query")(x), c.heads)
        k = layers.heads(dense(c.kv_heads * c.head_width, name="key")(x), c.kv_heads)
        v = layers.heads(dense(c.kv_heads * c.head_width, name="value")(x), c.kv_heads)
        radians = rotary.frequencies(c.rope, c.head_width)
        first = 0 if past is None else past.keys.shape[1]
        q = touch(rotary.rotate(q, radians, first), row.queries)
        k = touch(rotary.rotate(k, radians, first), row.keys)
        v = touch(v, row.values)
        all_k, all_v = layers.after(past, k, v)
        allowed = layers.causal(q, all_k, window) & inputs.mask[:, None, None, :]
        z = layers.attend(
            q, all_k, all_v, allowed, c.attention_dropout, keys, c.score_scale, c.score_cap
        )
        z = touch(z, row.heads)
        x = dense(c.width, name="attention_out")(layers.joined(z))
        x = norm(name="attention_out_norm")(x) if c.output_norms else x
        attention = touch(x, row.attention)
        h = h + attention

        read = touch(norm(name="mlp_norm")(h), row.mlp_in)
        gate = layers.ACTIVATIONS[c.activation](dense(c.mlp_width, name="gate")(read))
        neurons = touch(gate * dense(c.mlp_width, name="up")(read), row.mlp)
        x = dense(c.width, name="down")(neurons)
        x = norm(name="mlp_out_norm")(x) if c.output_norms else x
        out = touch(x, row.mlp_out)
        return h + out, Inside(q, k, v, z, attention, read, neurons, out)


class Final(nn.Module):
    """The norm after the last block."""

    config: Decoder

    @nn.compact
    def __call__(self, h: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return layers.RMSNorm(self.config.epsilon, self.config.norm_offset, name="norm")(h)


def language_head(config: Decoder, dtype: jnp.dtype) -> LanguageHead:
    """The language head; its vectors are the word embedding, or its own."""
    return LanguageHead(config.logit_cap)


BLOCK = "layers.{l}"
TABLE = (
    Row("embed_tokens.weight", "embed/word/embedding"),
    Row(f"{BLOCK}.input_layernorm.weight", "blocks/attention_norm/scale"),
    matrix(f"{BLOCK}.self_attn.q_proj", "blocks/query"),
    matrix(f"{BLOCK}.self_attn.k_proj", "blocks/key"),
    matrix(f"{BLOCK}.self_attn.v_proj", "blocks/value"),
    matrix(f"{BLOCK}.self_attn.o_proj", "blocks/attention_out"),
    matrix(f"{BLOCK}.mlp.gate_proj", "blocks/gate"),
    matrix(f"{BLOCK}.mlp.up_proj", "blocks/up"),
    matrix(f"{BLOCK}.mlp.down_proj", "blocks/down"),
    Row("norm.weight", "final/norm/scale"),
    *linear("score", "head/classifier", prefixed=False),
    Row("lm_head.weight", "head/word/embedding", prefixed=False),
)
"""All names except those of the norms around the feed-forward layer."""
MLP_UNIT = {"blocks/gate/kernel": 2, "blocks/up/kernel": 2, "blocks/down/kernel": 1}
IGNORED = (r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)
