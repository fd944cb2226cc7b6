"""Controls of an edit: updates that remove nothing on purpose."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def sham(
    key: Array, updates: Mapping[str, Float[Array, "L ..."]], scale: float = 1.0
) -> dict[str, Float[Array, "L ..."]]:
    """Random normal updates, each layer's as large as the given one (Frobenius norm) times `scale`.

    Args:
      key: draws the directions.
      updates: of stacked leaves, by path; a layer without an update has none.
    """
    drawn = {}
    for number, (path, update) in enumerate(sorted(updates.items())):
        noise = jax.random.normal(jax.random.fold_in(key, number), update.shape)
        axes = tuple(range(1, update.ndim))

        def size(x: Array, axes: tuple[int, ...] = axes) -> Array:
            return jnp.sqrt(jnp.sum(jnp.square(x), axis=axes, keepdims=True))

        drawn[path] = scale * noise * size(update) / size(noise)
    return drawn
