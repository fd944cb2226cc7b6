"""What may be done to the inside of a model, and what may be read there: data, never hooks.

`Sites` carries interventions, one `Site` for each place that a model exposes; `Taps` asks for
readings at the same places. `None` means nothing there and costs nothing. In the order of
computation:

    states                 the hidden states between blocks: rows 0..L, all others have rows 0..L-1
    queries, keys, values  of attention, after any rotation              [B, T, heads, head width]
    heads                  each head's output, before the output matrix  [B, T, heads, head width]
    attention              what attention adds to the stream             [B, T, D]
    mlp_in                 what the feed-forward layer reads, normed     [B, T, D]
    mlp                    the feed-forward neurons' activations         [B, T, F]
    mlp_out                what the feed-forward layer adds              [B, T, D]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

PyTree = Any


class Site(NamedTuple):
    """Interventions at one place, applied in this order; every leaf has a leading axis of rows R.

    mask: multiplies the activation. delta: is added; its gradient at 0 is the activation's
    gradient. patch: replaces the activation where `where` is true (both broadcast to the
    activation), or everywhere for want of `where`.
    """

    mask: Float[Array, "R ..."] | None = None
    delta: Float[Array, "R ..."] | None = None
    patch: Float[Array, "R ..."] | None = None
    where: Bool[Array, "R ..."] | None = None


class Sites(NamedTuple):
    """Interventions on a whole model, or a row of them: those on one block."""

    states: Site | None = None
    queries: Site | None = None
    keys: Site | None = None
    values: Site | None = None
    heads: Site | None = None
    attention: Site | None = None
    mlp_in: Site | None = None
    mlp: Site | None = None
    mlp_out: Site | None = None


class Inside(NamedTuple):
    """What a block computed at the places inside it, after its interventions."""

    queries: Float[Array, "B T H K"]
    keys: Float[Array, "B T G K"]
    values: Float[Array, "B T G K"]
    heads: Float[Array, "B T H K"]
    attention: Float[Array, "B T D"]
    mlp_in: Float[Array, "B T D"]
    mlp: Float[Array, "B T F"]
    mlp_out: Float[Array, "B T D"]


class Tap(NamedTuple):
    """A reading: `reduce(activation [B, T, ...], rows[r])` for every row r, results stacked on r.

    The reduction runs inside the scan over layers, so what it drops is never stored.
    """

    reduce: Callable[[Float[Array, "B T ..."], PyTree], PyTree]
    rows: PyTree = None


class Taps(NamedTuple):
    """Readings asked for, and in the same shape the readings that come back."""

    states: Tap | PyTree | None = None
    queries: Tap | PyTree | None = None
    keys: Tap | PyTree | None = None
    values: Tap | PyTree | None = None
    heads: Tap | PyTree | None = None
    attention: Tap | PyTree | None = None
    mlp_in: Tap | PyTree | None = None
    mlp: Tap | PyTree | None = None
    mlp_out: Tap | PyTree | None = None


def everything(activation: Float[Array, "B T ..."], _: PyTree) -> Float[Array, "B T ..."]:
    """The reduction that reduces nothing."""
    return activation


def touch(x: Float[Array, "B T ..."], site: Site | None) -> Float[Array, "B T ..."]:
    """Apply one row of a `Site` to an activation."""
    if site is None:
        return x
    if site.mask is not None:
        x = x * site.mask.astype(x.dtype)
    if site.delta is not None:
        x = x + site.delta.astype(x.dtype)
    if site.patch is not None:
        patch = jnp.broadcast_to(site.patch.astype(x.dtype), x.shape)
        x = patch if site.where is None else jnp.where(site.where, patch, x)
    return x


def read(tap: Tap | None, x: Float[Array, "B T ..."], row: PyTree) -> PyTree:
    """Apply one row of a `Tap` to an activation."""
    return None if tap is None else tap.reduce(x, row)
