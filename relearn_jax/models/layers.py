"""Small pieces that the families share (B batch, T queries, S keys, H heads, K head width)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from relearn_jax.models.inputs import Past, RowKeys

INIT = nn.initializers.normal(0.02)


def dense(features: int, dtype: jnp.dtype, name: str) -> nn.Dense:
    """An affine map with float32 parameters, computed in `dtype`."""
    return nn.Dense(features, dtype=dtype, param_dtype=jnp.float32, kernel_init=INIT, name=name)


def layer_norm(x: Float[Array, "... D"], epsilon: float, name: str) -> Float[Array, "... D"]:
    """Layer normalisation in float32, returned in the dtype of `x`. Call inside a module."""
    norm = nn.LayerNorm(epsilon=epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)
    return norm(x).astype(x.dtype)


def gelu_erf(x: Array) -> Array:
    """Exact GELU; written with erf, which XLA compiles to less than erfc."""
    return 0.5 * x * (1.0 + lax.erf(x * (0.5**0.5)))


def gelu_tanh(x: Array) -> Array:
    """GELU's tanh approximation (`gelu_new`, `gelu_pytorch_tanh`)."""
    return nn.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": gelu_erf,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": nn.relu,
    "silu": nn.silu,
}


def dropout(x: Float[Array, "B ..."], rate: float, keys: RowKeys | None) -> Array:
    """Inverted dropout, each row from a key of its own; `keys` None switches it off.

    What a row loses does not depend on the rows beside it, so any spread of a batch over devices
    drops the same. Compares 16 random bits with the rate (resolution 1/65536): half the generator's
    work of a float32 draw, and the kept share that divides is the exact one.
    """
    if keys is None or rate == 0.0:
        return x
    threshold = round(rate * 65536)
    bits = jax.vmap(lambda key: jax.random.bits(key, x.shape[1:], jnp.uint16))(keys)
    return jnp.where(bits >= threshold, x * (65536 / (65536 - threshold)), 0).astype(x.dtype)


def attend(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    allowed: Bool[Array, "#B 1 #T S"],
    rate: float = 0.0,
    keys: RowKeys | None = None,
) -> Float[Array, "B T H K"]:
    """Scaled dot-product attention with softmax in float32 and dropout on its weights."""
    scores = jnp.einsum("BTHK,BSHK->BHTS", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(allowed, scores * q.shape[-1] ** -0.5, jnp.finfo(jnp.float32).min)
    weights = dropout(jax.nn.softmax(scores, axis=-1).astype(v.dtype), rate, keys)
    return jnp.einsum("BHTS,BSHK->BTHK", weights, v)


def heads(x: Float[Array, "B T D"], count: int) -> Float[Array, "B T H K"]:
    """Split the width into heads."""
    return x.reshape(*x.shape[:-1], count, -1)


def joined(x: Float[Array, "B T H K"]) -> Float[Array, "B T HK"]:
    """The heads side by side."""
    return x.reshape(*x.shape[:-2], -1)


def after(
    past: Past | None, k: Float[Array, "B T G K"], v: Float[Array, "B T G K"]
) -> tuple[Float[Array, "B S G K"], Float[Array, "B S G K"]]:
    """Keys and values of all positions, those computed earlier first."""
    if past is None:
        return k, v
    return jnp.concatenate([past.keys, k], axis=1), jnp.concatenate([past.values, v], axis=1)


def causal(q: Float[Array, "B T H K"], k: Float[Array, "B S G K"]) -> Bool[Array, "1 1 T S"]:
    """Which keys a query may see: its own position's and earlier ones; queries are the last T."""
    length, all_ = q.shape[1], k.shape[1]
    return jnp.tril(jnp.ones((length, all_), bool), all_ - length)[None, None]


def split(keys: RowKeys | None, count: int) -> list[RowKeys | None]:
    """`count` keys of every row's one, or as many Nones."""
    if keys is None:
        return [None] * count
    return list(jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(keys))
