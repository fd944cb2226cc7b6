"""What every model reads."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Int, Key


class Inputs(NamedTuple):
    """Token ids and which of them are real (B batch, T tokens)."""

    ids: Int[Array, "B T"]
    mask: Bool[Array, "B T"]


RowKeys = Key[Array, " B"]
"""Dropout keys of a batch, one for each row."""
