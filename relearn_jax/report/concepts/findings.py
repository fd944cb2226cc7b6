"""All that is computed for a page, once: the page tables, and the arrays that figures need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from relearn_jax.report.concepts import layer_tables, snapshots
from relearn_jax.report.concepts.reading import Run, last_stage, main_arm
from relearn_jax.report.concepts.snapshots import At, Snapshot, Tokens
from relearn_jax.report.tables import Table


class Findings(NamedTuple):
    """Page tables by name, and the neurons they were computed from."""

    tables: Mapping[str, Table]
    neurons: Mapping[At, Snapshot]
    tokens: Mapping[At, Tokens]


def points(run: Run, results: Findings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Similarity and saliency of the main arm's neurons at its last stage, by group, all seeds."""
    arm = main_arm(run)
    xs: dict[str, list[np.ndarray]] = {group: [] for group in layer_tables.GROUPS}
    ys: dict[str, list[np.ndarray]] = {group: [] for group in layer_tables.GROUPS}
    for place in snapshots.after(results.tokens, arm, last_stage(run, arm, "neurons")).values():
        if place in results.neurons:
            now, near = results.neurons[place], results.tokens[place].similarity
            for group, members in (("unpruned", ~now.pruned), ("pruned", now.pruned)):
                use = members.ravel() & np.isfinite(near)
                xs[group].append(near[use])
                ys[group].append(now.saliency["rank"].ravel()[use])
    return {g: (np.concatenate(xs[g]), np.concatenate(ys[g])) for g in xs if xs[g]}


def maps(run: Run, results: Findings, name: str) -> dict[str, np.ndarray]:
    """[S, D] maps of one saliency at every stage, main arm, first seed there is."""
    arm = main_arm(run)
    seed = map_seed(run, results)
    places = {"base": (seed, "base", "base")}
    places |= {stage: (seed, arm, stage) for stage in run.stages[1:]}
    return {
        stage: results.neurons[place].saliency[name]
        for stage, place in places.items()
        if place in results.neurons
    }


def map_seed(run: Run, results: Findings) -> int:
    """The seed whose neurons the heat maps show: the first that has any."""
    return next((s for s in run.seeds if (s, "base", "base") in results.neurons), run.seeds[0])
