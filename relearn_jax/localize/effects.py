"""Measurements of localizers: the change of an answer when an activation is replaced, by pair.

Letters: B pairs, L layers, T positions, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

Location = Literal["states", "heads", "attention", "mlp_out"]
"""The place where an activation is replaced (`models.sites`); `states` enter a block."""
Axis = Literal["layer", "position", "head"]
"""What is replaced at a time: a layer at all positions, a single position, or a single head."""
Metric = Literal["logit_difference", "probability", "mass"]
"""What changes: the answer's logit minus the alternatives', in nats; its probability; or the summed
probability of the right answers of all prompts."""
TOTAL = "total"


class Effect(NamedTuple):
    """The name of one measurement; its values are float32 [L, B], [L, T, B] or [L, H, B]."""

    method: str
    place: Location
    axis: Axis
    null: bool = False
    """Whether it is measured between two runs that both lack the fact."""


class Effects(NamedTuple):
    """All measurements on B pairs."""

    values: Mapping[Effect, Float[np.ndarray, "L ... B"]]
    totals: Mapping[Metric, Float[np.ndarray, " B"]]
    """The change by the whole corruption; scores are effects as a share of it."""


def share(
    effect: Float[np.ndarray, "... B"], total: Float[np.ndarray, " B"]
) -> Float[np.ndarray, ...]:
    """Mean effect over the pairs, as a share of the mean total change."""
    return effect.mean(-1) / total.mean()


def to_arrays(effects: Effects) -> dict[str, np.ndarray]:
    """Arrays under the names of a file: `noising/mlp_out/position`, `null/...`, `total/...`."""
    arrays = {_file_name(effect): values for effect, values in effects.values.items()}
    return arrays | {f"{TOTAL}/{metric}": values for metric, values in effects.totals.items()}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Effects:
    """The inverse of `to_arrays`."""
    values, totals = {}, {}
    for name, array in arrays.items():
        parts = name.split("/")
        if parts[0] == TOTAL:
            totals[parts[1]] = array
        else:
            null = parts[0] == "null"
            values[Effect(*parts[null:], null)] = array
    # Files are sorted by name; tables follow the order of the places.
    order = [*get_args(Location)]
    effects = sorted(values, key=lambda effect: (effect.null, order.index(effect.place)))
    return Effects({effect: values[effect] for effect in effects}, totals)


def _file_name(effect: Effect) -> str:
    return "/".join(("null",) * effect.null + (effect.method, effect.place, effect.axis))
