"""The task head every family shares."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from relearn_jax.models import layers
from relearn_jax.models.inputs import RowKeys


class TokenClassifier(nn.Module):
    """Dropout and an affine map to the labels, computed in float32 whatever the blocks use."""

    labels: int
    dropout: float

    @nn.compact
    def __call__(self, h: Float[Array, "B T D"], keys: RowKeys | None) -> Float[Array, "B T Y"]:
        h = layers.dropout(h, self.dropout, keys)
        return layers.dense(self.labels, jnp.float32, "classifier")(h)
