"""The inputs of all models."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, Key


class Inputs(NamedTuple):
    """Token ids, and a mask of real tokens (B batch, T tokens)."""

    ids: Int[Array, "B T"]
    mask: Bool[Array, "B T"]


class Past(NamedTuple):
    """Keys and values of one block at the P positions before the T computed ones.

    The mask of `Inputs` then covers all P + T positions.
    """

    keys: Float[Array, "B P G K"]
    values: Float[Array, "B P G K"]


RowKeys = Key[Array, " B"]
"""Dropout keys of a batch, one for each row."""
