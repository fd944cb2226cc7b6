"""Tables that compare several concepts: shared neurons, and neurons taken over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relearn_jax.config import Relearning
from relearn_jax.experiments.concepts import sets, snapshots
from relearn_jax.experiments.concepts.snapshots import Snapshot
from relearn_jax.neurons import choice, overlap, ranking

SHARE = 10
"""One of so many neurons is among the best where no number is pruned in all seeds."""


def overlap_rows(
    config: Relearning, names: Sequence[str], shape: tuple[int, int], out: Path
) -> list[dict[str, Any]]:
    """How many of their best neurons two concepts share in the base models, beside chance.

    The best are as many as are pruned. An automatic dose differs by seed and does not count; with
    no other, they are a tenth of all. `names` are the concepts [Y], `shape` is (rows, channels) of
    the neurons.
    """
    allowed = choice.prunable(shape, config.concepts.site)
    groups = sets.groups(config)
    numbers = dict.fromkeys(sets.requested(config, group, shape) for group in groups)
    tops = [number for number in numbers if number is not None] or [math.prod(shape) // SHARE]
    rows: list[dict[str, Any]] = []
    for concept_set in sets.product(config):
        first = concept_set.group == groups[0] and concept_set.arm == config.arms[0]
        if not first or not snapshots.tracked(out, concept_set, "base"):
            continue
        ranks = ranking.ranks(snapshots.snapshot(out, concept_set, "base").arrays["score"][:-1])
        for top in tops:
            shared = overlap.pairs(ranks, names, top, allowed)
            rows += [{"seed": concept_set.seed, "stage": "base"} | row for row in shared]
    return rows


def takeover_rows(
    now: Snapshot, base: Snapshot, pruned: np.ndarray, names: Sequence[str], site: str
) -> Iterator[dict[str, Any]]:
    """The concepts that the pruned neurons represent at the end, beside chance."""
    before, after = (ranking.ranks(snapshot.arrays["score"][:-1]) for snapshot in (base, now))
    shares = overlap.takeover(
        before, after, names, pruned, int(pruned.sum()), choice.prunable(pruned.shape, site)
    )
    place = {"group": now.group, "seed": now.seed, "arm": now.arm, "stage": now.stage}
    return (place | row for row in shares)
