"""Interventions on activations inside a model, and readings of them, as data instead of hooks.

`Sites` has an intervention, a `Site`, for each place that a model exposes; `Taps` has a reading for
each. `None` does nothing and costs nothing. The places in the order of computation:

    states                 hidden states between blocks: rows 0..L; other places have rows 0..L-1
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
    gradient. patch: replaces the activation where `where` is true, or everywhere if `where` is
    None; both broadcast to the activation.
    """

    mask: Float[Array, "R ..."] | None = None
    delta: Float[Array, "R ..."] | None = None
    patch: Float[Array, "R ..."] | None = None
    where: Bool[Array, "R ..."] | None = None


class Sites(NamedTuple):
    """Interventions on a whole model, or, as a row without the axis R, on one block."""

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
    """Activations at the places inside a block, after its interventions."""

    queries: Float[Array, "B T H K"]
    keys: Float[Array, "B T G K"]
    values: Float[Array, "B T G K"]
    heads: Float[Array, "B T H K"]
    attention: Float[Array, "B T D"]
    mlp_in: Float[Array, "B T D"]
    mlp: Float[Array, "B T F"]
    mlp_out: Float[Array, "B T D"]


class Tap(NamedTuple):
    """A reading: `reduce(activation [B, T, ...], rows[r])` for every row r, stacked over r.

    The reduction runs inside the scan over layers, so full activations are not stored.
    """

    reduce: Callable[[Float[Array, "B T ..."], PyTree], PyTree]
    rows: PyTree = None


class Taps(NamedTuple):
    """The taps of a pass; also its readings, each in the field of its tap."""

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
    """The identity, as the reduction of a tap."""
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
