"""The post-norm encoder of BERT and DistilBERT.

Hidden state 0 is the embedding after its norm; state l is the output of block l after its norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from relearn_jax.models import layers
from relearn_jax.models.heads import products
from relearn_jax.models.inputs import Inputs, RowKeys
from relearn_jax.models.sites import Inside, Sites, touch


@dataclass(frozen=True)
class Encoder:
    """Sizes and settings of a post-norm encoder."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    positions: int
    kinds: int
    """Token types; 0 for a model that has none."""
    activation: str
    epsilon: float
    hidden_dropout: float
    attention_dropout: float
    head_dropout: float
    padding_id: int = 0


class Embed(nn.Module):
    """Word, position and (where the model has them) token-type embeddings, then a norm."""

    config: Encoder
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Inputs, keys: RowKeys | None) -> Float[Array, "B T D"]:
        c = self.config
        length = inputs.ids.shape[1]
        x = nn.Embed(c.vocabulary, c.width, embedding_init=layers.INIT, name="word")(inputs.ids)
        table = nn.Embed(c.positions, c.width, embedding_init=layers.INIT, name="position")
        if c.kinds:
            kind = nn.Embed(c.kinds, c.width, embedding_init=layers.INIT, name="kind")
            x = x + kind(jnp.zeros((1, 1), jnp.int32))
        x = x + table(jnp.arange(length))[None]
        x = layers.layer_norm(x, c.epsilon, "norm").astype(self.dtype)
        return layers.dropout(x, c.hidden_dropout, keys)


class Block(nn.Module):
    """Attention and feed-forward, each followed by residual sum and norm."""

    config: Encoder
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, h: Float[Array, "B T D"], inputs: Inputs, row: Sites, keys: RowKeys | None
    ) -> tuple[Float[Array, "B T D"], Inside]:
        c = self.config
        for_weights, for_attention, for_mlp = layers.split(keys, 3)

        q, k, v = (
            touch(layers.heads(layers.Dense(c.width, self.dtype, name=name)(h), c.heads), site)
            for name, site in (("query", row.queries), ("key", row.keys), ("value", row.values))
        )
        allowed = inputs.mask[:, None, None, :]
        z = touch(layers.attend(q, k, v, allowed, c.attention_dropout, for_weights), row.heads)
        x = layers.Dense(c.width, self.dtype, name="attention_out")(layers.joined(z))
        attention = touch(layers.dropout(x, c.hidden_dropout, for_attention), row.attention)
        h = layers.layer_norm(h + attention, c.epsilon, "attention_norm")

        read = touch(h, row.mlp_in)
        x = layers.Dense(c.mlp_width, self.dtype, name="up")(read)
        neurons = touch(layers.ACTIVATIONS[c.activation](x), row.mlp)
        x = layers.Dense(c.width, self.dtype, name="down")(neurons)
        out = touch(layers.dropout(x, c.hidden_dropout, for_mlp), row.mlp_out)
        h = layers.layer_norm(h + out, c.epsilon, "output_norm")
        return h, Inside(q, k, v, z, attention, read, neurons, out)


class MaskedLanguageHead(nn.Module):
    """Dense layer, activation, norm, then the transposed word embedding plus a bias."""

    config: Encoder
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "B T D"],
        vectors: Float[Array, "V D"],
        words: Int[Array, "B W"] | None = None,
    ) -> Float[Array, "B T W"]:
        c = self.config
        h = layers.ACTIVATIONS[c.activation](layers.Dense(c.width, self.dtype, name="transform")(h))
        h = layers.layer_norm(h, c.epsilon, "norm")
        bias = self.param("bias", nn.initializers.zeros, (c.vocabulary,))
        return products(h, vectors, words) + (bias if words is None else bias[words][:, None])


NEURONS = {
    "ln_gain": {"blocks/output_norm/scale": 1},
    "ln_gain_bias": {"blocks/output_norm/scale": 1, "blocks/output_norm/bias": 1},
    "mlp_unit": {"blocks/up/kernel": 2, "blocks/up/bias": 1, "blocks/down/kernel": 1},
}
