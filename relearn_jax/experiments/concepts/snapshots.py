"""The finished stages of a run, read back: the neurons of every set at every stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from relearn_jax import runs
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.setup import Prepared


class Snapshot(NamedTuple):
    """The neurons of one stage."""

    group: str
    target: str
    seed: int
    arm: str
    stage: str
    arrays: dict[str, np.ndarray]


class Place(NamedTuple):
    """One stage of one arm, beside the base model that the arm came from."""

    now: Snapshot
    base: Snapshot
    pruned: np.ndarray
    """[S, D]; at the base stage, what the arm is going to prune."""
    first: bool
    """The base model itself: the first arm's, which stands for all."""
    last: bool


def places(prepared: Prepared, out: Path) -> Iterator[Place]:
    """Every set at every stage that has been tracked, in the order of the product."""
    names, arms = stages(prepared), prepared.config.arms
    for one in sets.product(prepared.config):
        if not tracked(out, one, "pruned"):
            continue
        base = snapshot(out, one, "base")
        mask = runs.arrays_of(out, sets.stage_name(one, "pruned"), "mask")
        for stage in names:
            if tracked(out, one, stage):
                now = snapshot(out, one, stage)
                yield Place(now, base, ~mask["keep"], one.arm == arms[0], stage == names[-1])


def begun(prepared: Prepared, out: Path) -> bool:
    """Whether there is anything for tables to hold: a first pruned model."""
    return any(tracked(out, one, "pruned") for one in sets.product(prepared.config))


def tracked(out: Path, one: ConceptSet, stage: str) -> bool:
    """Whether the neurons of a set have been measured at a stage."""
    return runs.has_arrays(out, f"{sets.stage_name(one, stage)}-neurons", "neurons")


def stages(prepared: Prepared) -> list[str]:
    """Stages of an arm, in order."""
    return ["base", "pruned", *(f"round{i + 1}" for i in range(prepared.config.retrain.rounds))]


def snapshot(out: Path, one: ConceptSet, stage: str) -> Snapshot:
    """The neurons of a set at a stage."""
    arrays = runs.arrays_of(out, f"{sets.stage_name(one, stage)}-neurons", "neurons")
    group = sets.group_name(one.group)
    return Snapshot(group, one.group.target, one.seed, one.arm, stage, arrays)
