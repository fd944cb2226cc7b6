"""Profiles: matching sizes of world, model and training (specs: mechanistic unlearning 9.2)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from relearn_jax import config
from relearn_jax.errors import UserError


class Profile(NamedTuple):
    """Settings of a world, and sizes of a decoder and a training that learn it."""

    world: config.World
    layers: int
    width: int
    heads: int
    feed_forward: int
    steps: int
    batch_size: int = 96
    learning_rate: float = 3e-3
    """AdamW's peak, after `warmup` steps; then a linear decay to 0."""
    warmup: int = 60


SIZES = {
    "ci": ((32, 6), (20, 9), {"layers": 4, "width": 64, "heads": 4, "feed_forward": 192,
                              "steps": 600}),
    "std": ((32, 12), (42, 9), {"layers": 8, "width": 64, "heads": 4, "feed_forward": 192,
                                "steps": 1500}),
    "gpu": ((128, 24), (128, 18), {"layers": 12, "width": 256, "heads": 8, "feed_forward": 768,
                                   "steps": 4000}),
}  # fmt: skip
"""(names, degree) of the natural world and of the planted world, whose degree must be a multiple of
9; and the other sizes. Athletes: 192 and 180, 384 and 378, 3,072 and 2,304."""


def profile(name: str, variant: Literal["natural", "planted"] = "natural") -> Profile:
    """The profile `ci`, `std` or `gpu` of a variant; UserError for another name."""
    if name not in SIZES:
        raise UserError(f"there is no profile {name!r}; choose {', '.join(SIZES)}.")
    natural, planted, sizes = SIZES[name]
    names, degree = planted if variant == "planted" else natural
    return Profile(config.World(names=names, degree=degree, variant=variant), **sizes)
