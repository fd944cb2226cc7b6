"""What may be done to the inside of a model, and what may be read there: data, never hooks.

`Sites` carries interventions, one `Site` for each place a model exposes; `Taps` asks for
readings. Places: `states`, the L+1 hidden states between blocks (rows 0..L, K = D), and `mlp`, the
L feed-forward activations (K = F). `None` means nothing there and costs nothing.
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
    gradient. patch: replaces the activation where `where` is true (both broadcast to B, T, K).
    """

    mask: Float[Array, "R ..."] | None = None
    delta: Float[Array, "R ..."] | None = None
    patch: Float[Array, "R ..."] | None = None
    where: Bool[Array, "R ..."] | None = None


class Sites(NamedTuple):
    """Interventions on a whole model."""

    states: Site | None = None
    mlp: Site | None = None


class Tap(NamedTuple):
    """A reading: `reduce(activation [B, T, K], rows[r])` for every row r, results stacked on r.

    The reduction runs inside the scan over layers, so what it drops is never stored.
    """

    reduce: Callable[[Float[Array, "B T K"], PyTree], PyTree]
    rows: PyTree = None


class Taps(NamedTuple):
    """Readings asked for, and in the same shape the readings that come back."""

    states: Tap | PyTree | None = None
    mlp: Tap | PyTree | None = None


def everything(activation: Float[Array, "B T K"], _: PyTree) -> Float[Array, "B T K"]:
    """The reduction that reduces nothing."""
    return activation


def touch(x: Float[Array, "B T K"], site: Site | None) -> Float[Array, "B T K"]:
    """Apply one row of a `Site` to an activation."""
    if site is None:
        return x
    if site.mask is not None:
        x = x * site.mask.astype(x.dtype)
    if site.delta is not None:
        x = x + site.delta.astype(x.dtype)
    if site.patch is not None:
        x = jnp.where(site.where, site.patch.astype(x.dtype), x)
    return x


def read(tap: Tap | None, x: Float[Array, "B T K"], row: PyTree) -> PyTree:
    """Apply one row of a `Tap` to an activation."""
    return None if tap is None else tap.reduce(x, row)
