"""The neurons of a run as arrays: one snapshot for each seed, arm and stage.

Axes: S rows (states or blocks), D channels. Numbers are those of the target concept unless their
name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from relearn_jax.neurons import saliency
from relearn_jax.report.concepts.reading import Run, last_stage, tracked_arms

At = tuple[int, str, str]
"""(seed, arm, stage); the base model is the arm `base`."""


class Snapshot(NamedTuple):
    """What the concepts table says about every neuron at one place."""

    rank: Int[np.ndarray, "S D"]
    pruned: Bool[np.ndarray, "S D"]
    saliency: Mapping[str, Float[np.ndarray, "S D"]]
    """By name in `saliency.SHOWN`."""


class Tokens(NamedTuple):
    """What the neurons table says about every neuron at one place, in the order of its ids."""

    top: np.ndarray
    similarity: Float[np.ndarray, " N"]
    target_share: Float[np.ndarray, " N"]
    null: Bool[np.ndarray, " N"]


def shape(run: Run) -> tuple[int, int]:
    """Rows and channels."""
    neurons = run.manifest["neurons"]
    return int(neurons["rows"]), int(neurons["channels"])


def snapshots(run: Run) -> dict[At, Snapshot]:
    """Every place of the concepts table, for the target concept; incomplete ones are left out."""
    frame = run.tables["concepts"]
    grid = shape(run)
    return {
        place: Snapshot(
            rank=_grid(part["rank"], grid, np.int64),
            pruned=_grid(part["pruned"], grid, bool),
            saliency={
                name: _grid(part[saliency.column(name)], grid, np.float64)
                for name in saliency.SHOWN
            },
        )
        for place, part in _places(frame[frame["concept"] == run.target], grid)
    }


def other_saliency(run: Run) -> dict[int, Float[np.ndarray, "S D"]]:
    """For each seed, the base model's highest rank saliency over the concepts beside the target.

    The label of words that belong to no concept does not count. Seeds without another concept are
    left out.
    """
    frame = run.tables["concepts"]
    nothing = str((run.config.get("concepts") or {}).get("other") or "O")
    frame = frame[(frame["stage"] == "base") & ~frame["concept"].isin([run.target, nothing])]
    grid = shape(run)
    highest = frame.groupby(["seed", "neuron"], sort=True)["saliency_rank"].max()
    return {
        int(seed): part.to_numpy(np.float64).reshape(grid)
        for seed, part in highest.groupby(level="seed")
        if len(part) == grid[0] * grid[1]
    }


def tokens(run: Run) -> dict[At, Tokens]:
    """Every place of the neurons table; the similarity of unchanged neurons is left out (NaN)."""
    grid = shape(run)
    by_place = {}
    for place, part in _places(run.tables["neurons"], grid):
        similarity = pd.to_numeric(part["similarity"]).to_numpy(np.float64)
        unchanged = part["unchanged"].fillna(False).to_numpy(bool)
        by_place[place] = Tokens(
            top=part["top_tokens"].to_numpy(),
            similarity=np.where(unchanged, np.nan, similarity),
            target_share=pd.to_numeric(part["target_share"]).to_numpy(np.float64),
            null=part["null"].to_numpy(bool),
        )
    return by_place


def after(places: Mapping[At, object], arm: str, stage: str) -> dict[int, At]:
    """The place of each seed at a stage of an arm, where its base stage is there too."""
    return {
        seed: (seed, name, when)
        for seed, name, when in places
        if (name, when) == (arm, stage) and (seed, "base", "base") in places
    }


def ends(run: Run, places: Mapping[At, object], table: str) -> Iterator[tuple]:
    """(arm, seed, place of the base model, place of the last stage) wherever both are there."""
    for arm in tracked_arms(run):
        for seed, place in after(places, arm, last_stage(run, arm, table)).items():
            yield arm, seed, (seed, "base", "base"), place


def _places(frame: pd.DataFrame, grid: tuple[int, int]):
    for place, part in frame.groupby(["seed", "arm", "stage"], sort=False):
        if len(part) == grid[0] * grid[1]:
            seed, arm, stage = place
            yield (int(seed), str(arm), str(stage)), part.sort_values("neuron", kind="stable")


def _grid(values: pd.Series, grid: tuple[int, int], kind: type) -> np.ndarray:
    return values.to_numpy(kind).reshape(grid)
