"""Snapshots read from the finished stages of a run: the neurons of every set at every stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from relearn_jax import runs
from relearn_jax.config import Relearning
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.sets import ConceptSet


class Snapshot(NamedTuple):
    """Arrays of the neurons of a set at one stage."""

    group: str
    target: str
    seed: int
    arm: str
    stage: str
    arrays: dict[str, np.ndarray]


class Stage(NamedTuple):
    """A stage of a set, beside the set's base model."""

    now: Snapshot
    base: Snapshot
    pruned: np.ndarray
    """[S, D]; at the base stage, the neurons that the set will prune."""
    first: bool
    """Whether the set has the first arm; only its base stage stands in tables of neurons."""
    last: bool


def snapshots(config: Relearning, out: Path) -> Iterator[Stage]:
    """Every set at every stage that has been tracked, in the order of the product."""
    names, arms = stages(config), sets.arms(config)
    for concept_set in sets.product(config):
        if not tracked(out, concept_set, "pruned"):
            continue
        base = snapshot(out, concept_set, "base")
        mask = runs.arrays_of(out, sets.stage_name(concept_set, "pruned"), "mask")
        for stage in names:
            if tracked(out, concept_set, stage):
                now = snapshot(out, concept_set, stage)
                yield Stage(
                    now, base, ~mask["keep"], concept_set.arm == arms[0], stage == names[-1]
                )


def begun(config: Relearning, out: Path) -> bool:
    """Whether any set has been pruned and tracked, so that tables have rows."""
    return any(tracked(out, concept_set, "pruned") for concept_set in sets.product(config))


def tracked(out: Path, concept_set: ConceptSet, stage: str) -> bool:
    """Whether the neurons of a set have been measured at a stage."""
    return runs.has_arrays(out, f"{sets.stage_name(concept_set, stage)}-neurons", "neurons")


def stages(config: Relearning) -> list[str]:
    """Stages of an arm, in order."""
    return ["base", "pruned", *(f"round{i + 1}" for i in range(config.retrain.rounds))]


def stage_names(config: Relearning) -> list[str]:
    """Folders of all stages of a config, tracked neurons included."""
    names = [
        sets.stage_name(concept_set, stage) + part
        for concept_set in sets.product(config)
        for stage in stages(config)
        if not (concept_set.arm == "oracle" and stage == "base")
        for part in (("",) if concept_set.arm == "oracle" else ("", "-neurons"))
    ]
    return list(dict.fromkeys(names))


def snapshot(out: Path, concept_set: ConceptSet, stage: str) -> Snapshot:
    """The neurons of a set at a stage."""
    arrays = runs.arrays_of(out, f"{sets.stage_name(concept_set, stage)}-neurons", "neurons")
    group = sets.group_name(concept_set.group)
    return Snapshot(
        group, concept_set.group.target, concept_set.seed, concept_set.arm, stage, arrays
    )
