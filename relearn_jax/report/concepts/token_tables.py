"""Page tables about single neurons: those that took the concept over, and what they were before.

Every comparison group is layer matched: its mean is taken in each layer and the layers are
weighted as in the neurons that took over, since late layers rank high for every concept.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from relearn_jax.report.concepts.arms import ARM
from relearn_jax.report.concepts.reading import Run, last_stage
from relearn_jax.report.concepts.snapshots import Place, Snapshot, Tokens, after
from relearn_jax.report.tables import Column, Table, averaged

PRIMED, OLD, NEW, BLEND = (
    "saliency for another concept, base",
    "target among top tokens, base",
    "target among top tokens, last",
    "keep old top tokens beside new ones",
)
COLUMNS = (
    Column("primed", "took over", "f3", PRIMED),
    Column("primed_pool", "others", "f3", PRIMED),
    Column("primed_more", "difference", "signed", PRIMED),
    Column("share_base", "took over", "percent", OLD),
    Column("share_base_pool", "others", "percent", OLD),
    Column("share_last", "took over", "percent", NEW),
    Column("share_last_pool", "others", "percent", NEW),
    Column("blend", "took over", "percent", BLEND),
    Column("blend_pool", "others", "percent", BLEND),
    Column("blend_more", "points", "points", BLEND),
)


def takers_by_seed(
    run: Run,
    found: Mapping[Place, Snapshot],
    words: Mapping[Place, Tokens],
    other: Mapping[int, np.ndarray],
) -> dict[tuple[int, str], dict[str, float]]:
    """Neurons that took the concept over, and the others that could have, by (seed, arm).

    The others are unpruned and, like them, were outside the upper half of the base ranking.
    """
    table, values = run.tables["taken_over"], {}
    for arm in run.arms:
        stage = last_stage(run, arm, "neurons")
        for seed, place in after(words, arm, stage).items():
            some = table[(table["arm"] == arm) & (table["seed"] == seed)]
            if place not in found or some.empty:
                continue
            base = found[(seed, "base", "base")].rank.ravel()
            takers = np.zeros(base.size, bool)
            takers[some["neuron"].to_numpy(int)] = True
            pool = (base >= base.size // 2) & ~found[place].pruned.ravel() & ~takers
            rows = np.repeat(np.arange(len(found[place].rank)), found[place].rank.shape[1])
            facts = _facts(words[(seed, "base", "base")], words[place])
            if seed in other:
                facts["primed"] = other[seed].ravel()
            cell = values.setdefault((seed, arm), {})
            for name, value in facts.items():
                own, others = _matched(value, takers, pool, rows)
                cell |= {name: own, f"{name}_pool": others, f"{name}_more": own - others}
    return values


def _facts(before: Tokens, now: Tokens) -> dict[str, np.ndarray]:
    pairs = [({*a}, {*b}) for a, b in zip(before.top, now.top, strict=True)]
    return {
        "share_base": before.target_share,
        "share_last": now.target_share,
        "blend": np.array([bool(a & b) and bool(b - a) for a, b in pairs], float),
    }


def _matched(
    value: np.ndarray, takers: np.ndarray, pool: np.ndarray, rows: np.ndarray
) -> tuple[float, float]:
    """Mean over the takers, and over the pool with the takers' layers; layers without one go."""
    defined = np.isfinite(value)
    means, weights, own = [], [], []
    for row in np.unique(rows[takers]):
        here = (rows == row) & defined
        if (here & pool).any() and (here & takers).any():
            means.append(value[here & pool].mean())
            own.append(value[here & takers].mean())
            weights.append((here & takers).sum())
    if not weights:
        return np.nan, np.nan
    return float(np.average(own, weights=weights)), float(np.average(means, weights=weights))


def takers(values: Mapping[tuple[int, str], Mapping[str, float]]) -> Table:
    """The page's table of `takers_by_seed`."""
    caption = "Neurons that took the concept over, beside others of the same layers"
    files = ("tables/taken_over.csv", "tables/concepts.parquet", "tables/neurons.parquet")
    return averaged("takers", caption, values, (ARM,), COLUMNS, files)


def null_neurons(run: Run, words: Mapping[Place, Tokens], found: Mapping[Place, Snapshot]) -> Table:
    """Share of neurons without any alphabetic top token (the paper's null neurons)."""
    values: dict[tuple, dict[str, float]] = {}
    for seed, arm, stage in words:
        place = (seed, arm, stage)
        if arm == "base":
            for name in run.arms:
                values.setdefault((seed, name), {})["base"] = float(words[place].null.mean())
        elif place in found and stage in ("pruned", last_stage(run, arm, "neurons")):
            label = "pruned" if stage == "pruned" else "last"
            cut = found[place].pruned.ravel()
            cell = values.setdefault((seed, arm), {})
            for group, members in (("cut", cut), ("kept", ~cut)):
                share = words[place].null[members].mean() if members.any() else np.nan
                cell[f"{label}_{group}"] = float(share)
    columns = (
        Column("base", "all neurons", "percent", "base"),
        Column("pruned_kept", "unpruned", "percent", "pruned stage"),
        Column("pruned_cut", "pruned", "percent", "pruned stage"),
        Column("last_kept", "unpruned", "percent", "last stage"),
        Column("last_cut", "pruned", "percent", "last stage"),
    )
    caption = "Neurons without any alphabetic top token"
    files = ("tables/neurons.parquet",)
    return averaged("null_neurons", caption, values, (ARM,), columns, files)
