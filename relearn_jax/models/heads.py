"""Modules behind the blocks, shared by families: the last norm and the task heads."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from relearn_jax.models import layers
from relearn_jax.models.inputs import RowKeys


class LayerNorm(nn.Module):
    """The layer norm after the last block."""

    epsilon: float

    @nn.compact
    def __call__(self, h: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return layers.layer_norm(h, self.epsilon, "norm")


class TokenClassifier(nn.Module):
    """Dropout and an affine map to the labels, computed in float32 for any dtype of the blocks."""

    labels: int
    dropout: float

    @nn.compact
    def __call__(self, h: Float[Array, "B T D"], keys: RowKeys | None) -> Float[Array, "B T Y"]:
        h = layers.dropout(h, self.dropout, keys)
        return layers.Dense(self.labels, jnp.float32, name="classifier")(h)


class LanguageHead(nn.Module):
    """Products with the vectors of words, softly capped; it has no parameters."""

    cap: float | None = None

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "B T D"],
        vectors: Float[Array, "V D"],
        words: Int[Array, "B W"] | None = None,
    ) -> Float[Array, "B T W"]:
        return layers.soft_cap(products(h, vectors, words), self.cap)


def products(
    h: Float[Array, "B T D"], vectors: Float[Array, "V D"], words: Int[Array, "B W"] | None
) -> Float[Array, "B T W"]:
    """Products in float32 with the vectors of each row's words, or (None) of all V words."""
    if words is None:
        vectors, form = vectors.astype(h.dtype), "BTD,VD->BTV"
    else:
        vectors, form = vectors[words].astype(h.dtype), "BTD,BWD->BTW"
    return jnp.einsum(form, h, vectors, preferred_element_type=jnp.float32)
