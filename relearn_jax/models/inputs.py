"""What every model reads."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Int


class Inputs(NamedTuple):
    """Token ids and which of them are real (B batch, T tokens)."""

    ids: Int[Array, "B T"]
    mask: Bool[Array, "B T"]
