"""Tables of what only several concepts have: shared neurons, and neurons that change sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from relearn_jax.experiments.concepts import sets, snapshots
from relearn_jax.experiments.concepts.setup import Prepared, requested
from relearn_jax.experiments.concepts.snapshots import Snapshot
from relearn_jax.neurons import masks, overlap, ranking


def overlap_rows(prepared: Prepared, out: Path) -> list[dict[str, Any]]:
    """How many of their highest neurons the concepts share in the base models, against chance."""
    config = prepared.config
    allowed = masks.prunable(prepared.shape, config.concepts.site)
    kinds = sets.groups(config)
    tops = dict.fromkeys(requested(config, group, prepared.shape) for group in kinds)
    rows: list[dict[str, Any]] = []
    for one in sets.product(config):
        if (
            one.group != kinds[0]
            or one.arm != config.arms[0]
            or not snapshots.tracked(out, one, "base")
        ):
            continue
        ranks = ranking.ranks(snapshots.snapshot(out, one, "base").arrays["score"][:-1])
        for top in tops:
            found = overlap.pairs(ranks, prepared.concepts.names[:-1], top, allowed)
            rows += [{"seed": one.seed, "stage": "base"} | row for row in found]
    return rows


def takeover_rows(
    prepared: Prepared, now: Snapshot, base: Snapshot, pruned: np.ndarray
) -> Iterator[dict[str, Any]]:
    """What the pruned neurons stand for at the end, against chance."""
    before, after = (ranking.ranks(snapshot.arrays["score"][:-1]) for snapshot in (base, now))
    found = overlap.takeover(
        before, after, prepared.concepts.names[:-1], pruned, int(pruned.sum()),
        masks.prunable(prepared.shape, prepared.config.concepts.site),
    )  # fmt: skip
    place = {"group": now.group, "seed": now.seed, "arm": now.arm, "stage": now.stage}
    return (place | row for row in found)
