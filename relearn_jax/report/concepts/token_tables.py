"""Page tables about single neurons: those that took the concept over, and what they were before.

Every comparison group is layer matched: its mean is taken in each layer and the layers are
weighted as in the neurons that took over, since late layers rank high for every concept.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from relearn_jax.report.concepts.arms import ARM
from relearn_jax.report.concepts.reading import Run, last_stage, tracked_arms
from relearn_jax.report.concepts.snapshots import (
    At,
    Snapshot,
    Tokens,
    ends,
    other_saliency,
    shape,
)
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


def takers(run: Run, neurons: Mapping[At, Snapshot], words: Mapping[At, Tokens]) -> Table:
    """Neurons that took the concept over, and the others that could have.

    The others are unpruned and, like them, were outside the upper half of the base ranking.
    """
    table, other, records = run.tables["taken_over"], other_saliency(run), []
    for arm, seed, first, place in ends(run, words, "neurons"):
        ids = table.loc[(table["arm"] == arm) & (table["seed"] == seed), "neuron"]
        if place not in neurons or ids.empty:
            continue
        base = neurons[first].rank.ravel()
        takers = np.isin(np.arange(base.size), ids)
        pool = (base >= base.size // 2) & ~neurons[place].pruned.ravel() & ~takers
        rows = np.arange(base.size) // shape(run)[1]
        values = _facts(words[first], words[place])
        if seed in other:
            values["primed"] = other[seed].ravel()
        record = {"seed": seed, "arm": arm}
        for name, value in values.items():
            own, others = _matched(value, takers, pool, rows)
            record |= {name: own, f"{name}_pool": others, f"{name}_more": own - others}
        records.append(record)
    caption = "Neurons that took the concept over, beside others of the same layers"
    files = ("tables/taken_over.csv", "tables/concepts.parquet", "tables/neurons.parquet")
    return averaged("takers", caption, pd.DataFrame(records), (ARM,), COLUMNS, files)


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
    frame = pd.DataFrame({"row": rows, "own": value, "others": value})
    frame["own"], frame["others"] = frame["own"].where(takers), frame["others"].where(pool)
    means = frame.groupby("row").mean().assign(weight=frame.groupby("row")["own"].count()).dropna()
    if means.empty:
        return np.nan, np.nan
    own, others = np.average(means[["own", "others"]], axis=0, weights=means["weight"])
    return float(own), float(others)


def null_neurons(run: Run, neurons: Mapping[At, Snapshot], words: Mapping[At, Tokens]) -> Table:
    """Share of neurons without any alphabetic top token (the paper's null neurons)."""
    records = []
    for (seed, arm, stage), tokens in words.items():
        place = (seed, arm, stage)
        if arm == "base":
            records += [
                {"seed": seed, "arm": a, "base": tokens.null.mean()} for a in tracked_arms(run)
            ]
        elif place in neurons and stage in ("pruned", last_stage(run, arm, "neurons")):
            label = "pruned" if stage == "pruned" else "last"
            shares = pd.Series(tokens.null).groupby(neurons[place].pruned.ravel()).mean()
            named = {f"{label}_{'cut' if cut else 'kept'}": share for cut, share in shares.items()}
            records.append({"seed": seed, "arm": arm} | named)
    values = pd.DataFrame(records, columns=["seed", "arm"] if not records else None)
    values = values.groupby(["seed", "arm"], sort=False).first().reset_index()
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
