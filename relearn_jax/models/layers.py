"""Small functions and modules that the families share.

Letters: B batch, T queries, S keys, H heads, G heads of keys and values, K head width, D width.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.models.inputs import Past, RowKeys

INIT = nn.initializers.normal(0.02)
ADAPTER_DOWN, ADAPTER_UP = "adapter_down", "adapter_up"
"""A low-rank adapter's two matrices, [I, R] and [R, O], beside their kernel [I, O]."""


class Dense(nn.Module):
    """An affine (or, without bias, a linear) map with float32 parameters, computed in `dtype`.

    A low-rank adapter among its parameters is added to the kernel W without computing their sum:
    y = x W + (x down) up. So models side by side can share W.
    """

    features: int
    dtype: jnp.dtype
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        x = x.astype(self.dtype)
        kernel = self.param("kernel", INIT, (x.shape[-1], self.features), jnp.float32)
        y = jnp.dot(x, kernel.astype(self.dtype))
        if self.has_variable("params", ADAPTER_DOWN):
            down, up = (self.get_variable("params", name) for name in (ADAPTER_DOWN, ADAPTER_UP))
            # Two axes: with more, XLA copies x to contract it in the backward pass.
            rows = x.reshape(-1, x.shape[-1])
            added = jnp.dot(jnp.dot(rows, down.astype(self.dtype)), up.astype(self.dtype))
            y += added.reshape(y.shape)
        if self.bias:
            zeros = nn.initializers.zeros_init()
            y += self.param("bias", zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y


def layer_norm(x: Float[Array, "... D"], epsilon: float, name: str) -> Float[Array, "... D"]:
    """Layer normalisation in float32, returned in the dtype of `x`. Call inside a module."""
    norm = nn.LayerNorm(epsilon=epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)
    return norm(x).astype(x.dtype)


class RMSNorm(nn.Module):
    """Division by the root mean square, in float32, returned in the dtype of the input.

    The gain is `offset + scale`: Gemma stores its gains minus 1.
    """

    epsilon: float
    offset: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        start = nn.initializers.constant(1.0 - self.offset)
        scale = self.param("scale", start, x.shape[-1:])
        y = x.astype(jnp.float32)
        y = y * lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.epsilon)
        return (y * (self.offset + scale)).astype(x.dtype)


def gelu_erf(x: Array) -> Array:
    """Exact GELU; written with erf, which XLA compiles to less code than erfc."""
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
    """Inverted dropout with a key for each row; `keys` None switches it off.

    The dropped entries of a row do not depend on other rows, so they are the same for any spread of
    a batch over devices. 16 random bits are compared with the rate (resolution 1/65536), which
    halves the generator's work of a float32 draw; the divisor is the exact share that is kept.
    """
    if keys is None or rate == 0.0:
        return x
    threshold = round(rate * 65536)
    bits = jax.vmap(lambda key: jax.random.bits(key, x.shape[1:], jnp.uint16))(keys)
    return jnp.where(bits >= threshold, x * (65536 / (65536 - threshold)), 0).astype(x.dtype)


def attend(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S G K"],
    v: Float[Array, "B S G K"],
    allowed: Bool[Array, "#B 1 #T S"],
    rate: float = 0.0,
    keys: RowKeys | None = None,
    scale: float | None = None,
    cap: float | None = None,
) -> Float[Array, "B T H K"]:
    """Dot-product attention with softmax in float32 and dropout on its weights.

    Each head of keys and values serves H/G adjacent query heads. Scores are multiplied by `scale`
    (None: 1/sqrt(K)), then softly capped.
    """
    k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    scores = jnp.einsum("BTHK,BSHK->BHTS", q, k, preferred_element_type=jnp.float32)
    scores = soft_cap(scores * (q.shape[-1] ** -0.5 if scale is None else scale), cap)
    scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
    weights = dropout(jax.nn.softmax(scores, axis=-1).astype(v.dtype), rate, keys)
    return jnp.einsum("BHTS,BSHK->BTHK", weights, v)


def soft_cap(x: Array, cap: float | None) -> Array:
    """Squeeze values into (-cap, cap) (Gemma 2); None leaves them unchanged."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def heads(x: Float[Array, "B T D"], count: int) -> Float[Array, "B T H K"]:
    """Split the width into heads."""
    return x.reshape(*x.shape[:-1], count, -1)


def joined(x: Float[Array, "B T H K"]) -> Float[Array, "B T HK"]:
    """Join the heads side by side into one axis."""
    return x.reshape(*x.shape[:-2], -1)


def after(
    past: Past | None, k: Float[Array, "B T G K"], v: Float[Array, "B T G K"]
) -> tuple[Float[Array, "B S G K"], Float[Array, "B S G K"]]:
    """Keys and values of all positions: those in `past`, then `k` and `v`."""
    if past is None:
        return k, v
    return jnp.concatenate([past.keys, k], axis=1), jnp.concatenate([past.values, v], axis=1)


def causal(
    q: Float[Array, "B T H K"], k: Float[Array, "B S G K"], window: Int[Array, ""] | None = None
) -> Bool[Array, "1 1 T S"]:
    """Which keys a query may see: those of its own and earlier positions; queries are the last T.

    With a window, a query sees at most `window` positions, its own included.
    """
    positions = jnp.arange(k.shape[1])
    distance = positions[-q.shape[1] :, None] - positions
    visible = distance >= 0
    return (visible if window is None else visible & (distance < window))[None, None]


def split(keys: RowKeys | None, count: int) -> list[RowKeys | None]:
    """Split the key of every row into `count` keys; for None, return `count` times None."""
    if keys is None:
        return [None] * count
    return list(jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(keys))
