"""Shares beyond a floor, with intervals over facts and models."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000


class Share(NamedTuple):
    """A share with its 95 % interval; all NaN where it cannot be said."""

    value: float
    low: float
    high: float


UNKNOWN = Share(np.nan, np.nan, np.nan)


class Items(NamedTuple):
    """Right answers to the same n items by a model, by the model before the edit, and by chance or
    by a model that was never taught."""

    now: Float[np.ndarray, " n"]
    before: Float[np.ndarray, " n"]
    floor: Float[np.ndarray, " n"]


def share(models: list[Items], seed: int = 0) -> Share:
    """(now - floor) / (before - floor), each a mean over the items of all models.

    The interval is a percentile bootstrap in two stages: models are drawn, then the items of each,
    whose three values stay together (paired). With one model only its items are drawn.

    Args:
      models: items of each model.
      seed: of the bootstrap.
    """
    models = [items for items in models if len(items.now)]
    if not models:
        return UNKNOWN
    tables = [np.stack(items) for items in models]
    rng = np.random.default_rng(seed)
    # Sums of the three values over the items of a resample, and their number.
    sums = np.zeros((RESAMPLES, 3))
    for _ in tables:
        chosen = rng.integers(len(tables), size=RESAMPLES)
        for number, table in enumerate(tables):
            of_model = np.flatnonzero(chosen == number)
            drawn = rng.integers(table.shape[1], size=(len(of_model), table.shape[1]))
            sums[of_model] += table[:, drawn].sum(-1).T
    now, before, floor = np.concatenate(tables, axis=1).mean(1)
    value = _ratio(np.array([[now, before, floor]]))[0]
    found = _ratio(sums)
    found = found[np.isfinite(found)]
    if not np.isfinite(value) or not len(found):
        return UNKNOWN
    low, high = np.percentile(found, [2.5, 97.5])
    return Share(float(value), float(low), float(high))


def by_item(values: np.ndarray, items: Int[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    """Means of `values` over equal entries of `items`, in their sorted order."""
    _, place = np.unique(items, return_inverse=True)
    return np.bincount(place, values.astype(float)) / np.maximum(np.bincount(place), 1)


def _ratio(sums: Float[np.ndarray, "R 3"]) -> Float[np.ndarray, " R"]:
    now, before, floor = sums.T
    gap = before - floor
    return np.where(gap > 0, (now - floor) / np.where(gap > 0, gap, 1.0), np.nan)
