"""Page tables of a localization: gates, scores by layer, probes, heads, selections, agreement.

Rows of methods are named by their labels. How methods do against the layers where facts are looked
up is in `truth`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from relearn_jax.localize.arms import EVERYTHING
from relearn_jax.report.facts import truth
from relearn_jax.report.facts.methods import METHODS, PARTS, POSITIONS, label, ordered
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.tables import Column, Table, averaged, in_order

METHOD = Column("method", "method", "text")
LAYER = Column("layer", "layer", "text")
EVERY_GATE = "all gates"
STRONGEST = 5
"""Heads listed for a method."""
LISTED = 5
"""Layers listed for a method."""
CELLS = ("score", "low", "high", "null")


def gates(run: Localized) -> Table:
    """Every gate beside its limit, and how many hold."""
    frame = run.tables["gates"]
    several = len(run.done) > 1
    columns = (
        Column("rule", "should be", "text"),
        Column("limit", "limit", "f3"),
        Column("value", "value", "f3"),
        *((Column("worst", "worst seed", "f3"),) if several else ()),
        Column("passed", "passed", "int"),
        Column("of", "of", "int"),
    )
    key = (Column("name", "gate", "text"),)
    caption = "Gates: what must hold of a taught model before any result on it means anything"
    table = averaged("gates", caption, frame, key, (columns[2],), ("tables/gates.csv",))
    records = []
    for name, rows in frame.groupby("name", sort=False):
        least = bool(rows["at_least"].iloc[0])
        records.append(
            {"name": name, "rule": "at least" if least else "at most"}
            | {"limit": rows["limit"].iloc[0], "passed": int(rows["passed"].sum()), "of": len(rows)}
            | {"worst": rows["value"].min() if least else rows["value"].max()}
        )
    if records:
        total = {"name": EVERY_GATE, "passed": int(frame["passed"].sum()), "of": len(frame)}
        records.append(total)
    names = ["name", "rule", "limit", "value", "value_sd", "worst", "passed", "of"]
    limits = pd.DataFrame(records, columns=["name", "rule", "limit", "worst", "passed", "of"])
    return table._replace(
        frame=limits.merge(table.frame, how="left", on="name")[names], columns=columns
    )


def accuracy(run: Localized) -> Table:
    """Clean prompts that the model answers right."""
    frame = pd.DataFrame(run.accuracy.items(), columns=["seed", "right"])
    caption = "Clean prompts that the model answers right"
    key, column = (Column("seed", "seed", "text"),), (Column("right", "right", "percent"),)
    return Table("accuracy", caption, frame, key, column, ("manifest.json",))


def leading(run: Localized) -> Table:
    """Which feed-forward layer and component each localizer puts first, by absolute score."""
    frame, records = run.tables["scores"], []
    for method in ordered(frame["method"]):
        scores = frame[frame["method"] == method]
        scores = scores.assign(size=scores["score"].abs())
        mlp = scores[scores["part"] == "mlp"].dropna(subset="size")
        if not mlp["size"].any():
            continue
        firsts = Counter(int(part.loc[part["size"].idxmax(), "layer"])
                         for _, part in mlp.groupby("seed"))  # fmt: skip
        means = mlp.groupby("layer")["size"].mean()
        first = max(firsts, key=lambda layer: (firsts[layer], means[layer]))
        order = means.sort_values(ascending=False, kind="stable").index[:LISTED]
        records.append(
            {"method": label(method), "first": first, "seeds": firsts[first]}
            | {"of": mlp["seed"].nunique(), "order": ", ".join(str(layer) for layer in order)}
            | {"score": mlp.loc[mlp["layer"] == first, "score"].mean()}
            | _first_component(scores)
            | _largest_null(scores)
        )
    columns = (
        Column("first", "MLP that comes first", "int"),
        Column("seeds", "in seeds", "int"),
        Column("of", "of", "int"),
        Column("score", "its score", "f3"),
        Column("order", "order of the MLPs by mean size", "text"),
        Column("component", "first of all components", "text"),
        Column("component_score", "its score", "f3"),
        Column("null_component", "where", "text", "largest null"),
        Column("null", "null", "f3", "largest null"),
        Column("null_score", "score there", "f3", "largest null"),
    )
    names = ["method", *(c.key for c in columns)]
    caption = "Feed-forward layers (MLPs) that each localizer puts first, by the size of the score"
    frame = pd.DataFrame(records, columns=names)
    return Table("leading", caption, frame, (METHOD,), columns, ("tables/scores.csv",))


def _first_component(scores: pd.DataFrame) -> dict[str, Any]:
    """The component with the largest mean size over seeds; nothing if only one part has scores."""
    if scores["part"].nunique() < 2:
        return {}
    part, layer = scores["size"].groupby([scores["part"], scores["layer"]]).mean().idxmax()
    here = (scores["part"] == part) & (scores["layer"] == layer)
    name = f"{PARTS.get(part, part)} {layer}"
    return {"component": name, "component_score": scores.loc[here, "score"].mean()}


def _largest_null(scores: pd.DataFrame) -> dict[str, Any]:
    """Where the null is largest by mean size over seeds, and the score there."""
    part, layer = scores["null"].abs().groupby([scores["part"], scores["layer"]]).mean().idxmax()
    here = scores.loc[
        (scores["part"] == part) & (scores["layer"] == layer), ["null", "score"]
    ].mean()
    name = f"{PARTS.get(part, part)} {layer}"
    return {"null_component": name, "null": here["null"], "null_score": here["score"]}


def components(run: Localized) -> Table:
    """Scores of every attention block and feed-forward layer."""
    frame = by_method(run.tables["scores"])
    wide = frame.pivot(index=["seed", "method", "layer"], columns="part", values=list(CELLS))
    wide.columns = [f"{part}_{name}" for name, part in wide.columns]
    values = wide.reset_index()
    values = in_order(values, method=frame["method"].unique(), seed=run.done)
    columns = tuple(
        Column(f"{part}_{name}", name.replace("low", "95 % from").replace("high", "to"), "f3", word)
        for part, word in PARTS.items()
        for name in CELLS
    )
    plain = [c.key for c in columns if not c.key.endswith("score")]
    caption = "Scores of attention blocks and feed-forward layers"
    files = ("tables/scores.csv",)
    return averaged("components", caption, values, (METHOD, LAYER), columns, files, plain)


def probes(run: Localized) -> Table:
    """Accuracy of probes by position and state."""
    frame = run.tables["probes"]
    values = frame.pivot(index=["seed", "position", "row"], columns="kind", values="accuracy")
    values = in_order(values.reset_index(), position=frame["position"].unique(), seed=run.done)
    values = values.assign(position=values["position"].replace(POSITIONS))
    columns = (
        Column("states", "state", "f2", "accuracy"),
        Column("middle", "after the attention that follows", "f2", "accuracy"),
        Column("shuffled", "state, shuffled answers", "f2", "accuracy"),
    )
    keys = (Column("position", "position", "text"), Column("row", "state", "text"))
    caption = (
        "Probes: how often the answer is read right (state 0: embedding; l: after block l − 1)"
    )
    return averaged("probes", caption, values, keys, columns, ("tables/probes.csv",))


def heads(run: Localized) -> Table:
    """The heads with the largest effects, by mean size over seeds."""
    frame, records = run.tables["heads"], []
    for method in ordered(frame["method"]):
        shares = frame[frame["method"] == method]
        means = shares.assign(size=shares["share"].abs()).groupby(["layer", "head"]).agg(
            size=("size", "mean"), share=("share", "mean"), sd=("share", "std"),
            null=("null", "mean"),
        )  # fmt: skip
        strongest = means.sort_values("size", ascending=False, kind="stable").head(STRONGEST)
        for place, ((layer, head), row) in enumerate(strongest.iterrows(), start=1):
            records.append(
                {"method": label(method), "place": place, "layer": layer, "head": head}
                | {"share": row["share"], "share_sd": row["sd"], "null": row["null"]}
            )
    columns = (
        Column("layer", "layer", "int"),
        Column("head", "head", "int"),
        Column("share", "share of the whole change", "f3"),
        Column("null", "null", "f3"),
    )
    keys = (METHOD, Column("place", "place", "text"))
    frame = pd.DataFrame(
        records, columns=["method", "place", "layer", "head", "share", "share_sd", "null"]
    )
    caption = "The heads with the largest effects"
    return Table("heads", caption, frame, keys, columns, ("tables/heads.csv",))


def selections(run: Localized) -> Table:
    """What each method chooses under the budget, with its number of parameters."""
    frame = by_method(run.tables["selections"])
    values = frame.drop_duplicates(["seed", "method"])
    values = values[["seed", "method", "parameters_of_method", "overlap"]]
    values = values.rename(columns={"parameters_of_method": "parameters"})
    everything = values.loc[values["method"] == label(EVERYTHING.name), "parameters"]
    values = values.assign(
        share=values["parameters"] / (everything.iloc[0] if len(everything) else np.nan)
    )
    which = "planted layers" if truth.layers(run) else "fact lookup"
    where = "layers chosen" + " in at least half of the seeds" * (len(run.done) > 1)
    columns = (
        Column("attention", "attention", "text", where),
        Column("mlp", "MLP", "text", where),
        Column("parameters", "parameters", "int"),
        Column("share", "of all", "percent"),
        Column("overlap", f"overlap with {which}", "f2"),
    )
    caption = "Components chosen under equal budget"
    table = averaged("selections", caption, values, (METHOD,), columns, ("tables/selections.csv",))
    chosen = frame[frame["chosen"].astype(bool)].groupby(["part", "method"])
    layers = {at: [rows["layer"] for _, rows in part.groupby("seed")] for at, part in chosen}
    for part in PARTS:
        table.frame[part] = [
            usual(layers.get((part, method), ()), len(run.done)) for method in table.frame["method"]
        ]
    return table


def usual(chosen: Sequence[Iterable[int]], seeds: int) -> str:
    """Layers that at least half of the seeds chose, neighbours as `2–5`."""
    counts = Counter(int(layer) for layers in chosen for layer in layers)
    spans: list[list[int]] = []
    for layer in sorted(n for n, times in counts.items() if 2 * times >= seeds):
        if spans and spans[-1][1] == layer - 1:
            spans[-1][1] = layer
        else:
            spans.append([layer, layer])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in spans) or "none"


def agreement(run: Localized) -> Table:
    """How alike two methods order the feed-forward layers, and how much they choose alike."""
    frame = run.tables["agreement"]
    order = {name: place for place, name in enumerate(METHODS)}
    pairs = [
        sorted(names, key=lambda name: order.get(name, len(order)))
        for names in zip(frame["method_a"], frame["method_b"], strict=True)
    ]
    values = frame.assign(method=[label(a) for a, _ in pairs], other=[label(b) for _, b in pairs])
    keys = (METHOD, Column("other", "and", "text"))
    columns = (
        Column("spearman", "rank correlation (Spearman)", "f2"),
        Column("jaccard", "shared choice (Jaccard)", "f2"),
    )
    caption = "Agreement of two methods on feed-forward layers"
    return averaged("agreement", caption, values, keys, columns, ("tables/agreement.csv",))


def by_method(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of methods on the page, with labels in place of names."""
    frame = in_order(frame, method=ordered(frame["method"]))
    return frame.assign(method=frame["method"].map(label))


def chance(run: Localized) -> Mapping[str, float]:
    """Accuracy of always giving the most common answer, by position; nothing in older runs."""
    frame = run.tables["probes"]
    return dict(frame.groupby("position")["chance"].mean()) if "chance" in frame else {}
