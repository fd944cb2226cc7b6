"""Rotary positions (RoPE, Su et al. 2021), with frequencies stretched for long texts.

Letters: B batch, T tokens, H heads, K head width, R its rotated part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from relearn_jax.errors import UserError
from relearn_jax.models.settings import Settings

KINDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
    ),
}  # fmt: skip
"""The settings that each kind of stretching needs."""


@dataclass(frozen=True)
class Rope:
    """Hugging Face's `rope_parameters`."""

    theta: float = 10000.0
    kind: str = "default"
    share: float = 1.0
    """R / K."""
    factor: float = 1.0
    low: float = 1.0
    high: float = 1.0
    trained: int = 1
    """Positions in training, for llama3: waves shorter than trained/high are kept, waves longer
    than trained/low are stretched by the factor, and waves between are stretched in part."""


def parse(
    settings: Settings, width: int, theta: str = "rope_theta", share: str | None = None
) -> Rope:
    """Read `rope_scaling` of older files or `rope_parameters` of newer ones.

    Args:
      settings: settings of the file.
      width: K.
      theta, share: keys outside `rope_scaling` in older files of the family; share None: all of K
        is rotated.
    """
    outer_theta = settings.number(theta, 10000.0)
    outer_share = 1.0 if share is None else settings.number(share, 0.25)
    inner = settings.nested("rope_scaling", "rope_parameters")
    kind = inner.choice("rope_type", inner.choice("type", "default", KINDS), KINDS)
    missing = [key for key in KINDS[kind] if inner.values.get(key) is None]
    if missing:
        raise UserError(f"{inner.origin}: rope_type {kind} needs {', '.join(missing)}")
    if share is None:
        inner.require("partial_rotary_factor", 1.0)
    rope = Rope(
        theta=inner.number("rope_theta", outer_theta),
        kind=kind,
        share=inner.number("partial_rotary_factor", outer_share),
        **({"factor": inner.number("factor", 1.0)} if kind != "default" else {}),
        **(_bands(inner) if kind == "llama3" else {}),
    )
    inner.finish()
    if kind == "llama3" and rope.low >= rope.high:
        raise UserError(f"{inner.origin}: high_freq_factor must be greater than low_freq_factor")
    if not 0 < rotated(rope, width) <= width or rotated(rope, width) % 2:
        raise UserError(
            f"{inner.origin}: {rotated(rope, width)} of {width} coordinates of a head would be "
            "rotated; it must be an even number"
        )
    return rope


def _bands(inner: Settings) -> dict[str, float | int]:
    return {
        "low": inner.number("low_freq_factor", 1.0),
        "high": inner.number("high_freq_factor", 1.0),
        "trained": inner.integer("original_max_position_embeddings", None),
    }


def rotated(rope: Rope, width: int) -> int:
    """R for heads of width K."""
    return int(width * rope.share)


def frequencies(rope: Rope, width: int) -> Float[np.ndarray, " R/2"]:
    """Radians per position for heads of width K; in float32, as in training of the checkpoints."""
    size = np.float32(rotated(rope, width))
    plain = 1 / np.float32(rope.theta) ** (np.arange(0, size, 2, dtype=np.float32) / size)
    if rope.kind == "default":
        return plain
    stretched = plain / np.float32(rope.factor)
    if rope.kind == "linear":
        return stretched
    waves = rope.trained * plain / (2 * math.pi)
    plain_share = np.clip((waves - rope.low) / (rope.high - rope.low), 0, 1)
    return (1 - plain_share) * stretched + plain_share * plain


def rotate(
    x: Float[Array, "B T H K"], radians: Float[np.ndarray, " R/2"], first: int
) -> Float[Array, "B T H K"]:
    """Rotate each pair of coordinates (i, i + R/2) by its position; coordinates from R on are kept.

    The positions are first, first + 1, ... Angles and products are float32; the result has the
    dtype of `x`.
    """
    half = len(radians)
    positions = jnp.arange(first, first + x.shape[1], dtype=jnp.float32)
    angles = (positions[:, None] * radians)[:, None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b, rest = jnp.split(x.astype(jnp.float32), (half, 2 * half), axis=-1)
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)
    return turned.astype(x.dtype)
