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

from relearn_jax.report.facts import truth
from relearn_jax.report.facts.methods import METHODS, PARTS, POSITIONS, label, ordered
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.tables import Column, Table, averaged

METHOD = Column("method", "method", "text")
LAYER = Column("layer", "layer", "text")
EVERY_GATE = "all gates"
STRONGEST = 5
"""Heads listed for a method."""
LISTED = 5
"""Layers listed for a method."""
CELLS = ("score", "low", "high", "null")


def tables(run: Localized) -> dict[str, Table]:
    """Every table of the page, by name; without their files they are empty."""
    makers = (
        *(gates, accuracy, leading, components, probes, heads, selections, agreement),
        *(truth.found, truth.lookup),
    )
    return {table.name: table for table in (maker(run) for maker in makers)}


def of(run: Localized) -> str:
    """How the numbers of a table came from the seeds."""
    seeds = len(run.done)
    return f"Mean ± standard deviation over {seeds} seeds. " if seeds > 1 else "One seed. "


def gates(run: Localized) -> Table:
    """Every gate beside its limit, and how many hold."""
    frame = run.tables["gates"]
    values = {(s, n): {"value": v} for s, n, v in _rows(frame, "seed", "name", "value")}
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
    means = averaged("gates", "", values, key, (columns[2],), ()).frame
    records = []
    for record in means.to_dict("records"):
        some = frame[frame["name"] == record["name"]]
        least = bool(some["at_least"].iloc[0])
        records.append(
            record
            | {"rule": "at least" if least else "at most", "limit": some["limit"].iloc[0]}
            | {"worst": some["value"].min() if least else some["value"].max()}
            | {"passed": int(some["passed"].sum()), "of": len(some)}
        )
    if records:
        total = {"passed": int(frame["passed"].sum()), "of": len(frame)}
        records.append({"name": EVERY_GATE} | total)
    names = ("name", "rule", "limit", "value", "value_sd", "worst", "passed", "of")
    caption = "Gates: what must hold of a taught model before any result on it means anything"
    return Table(
        *("gates", caption, pd.DataFrame(records, columns=list(names)), key, columns),
        ("tables/gates.csv",),
    )


def accuracy(run: Localized) -> Table:
    """Clean prompts that the model answers right."""
    frame = pd.DataFrame(
        [{"seed": s, "right": a} for s, a in run.accuracy.items()], columns=["seed", "right"]
    )
    caption = "Clean prompts that the model answers right"
    key, column = (Column("seed", "seed", "text"),), (Column("right", "right", "percent"),)
    return Table("accuracy", caption, frame, key, column, ("manifest.json",))


def leading(run: Localized) -> Table:
    """Which feed-forward layer and component each localizer puts first, by absolute score."""
    frame, records = run.tables["scores"], []
    for method in ordered(frame["method"]):
        some = frame[frame["method"] == method]
        some = some.assign(size=some["score"].abs())
        mlp = some[some["part"] == "mlp"].dropna(subset="size")
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
            | _first_component(some)
            | _largest_null(some)
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


def _first_component(some: pd.DataFrame) -> dict[str, Any]:
    """By mean size over seeds; nothing where only one part has scores."""
    if some["part"].nunique() < 2:
        return {}
    part, layer = some["size"].groupby([some["part"], some["layer"]]).mean().idxmax()
    here = (some["part"] == part) & (some["layer"] == layer)
    name = f"{PARTS.get(part, part)} {layer}"
    return {"component": name, "component_score": some.loc[here, "score"].mean()}


def _largest_null(some: pd.DataFrame) -> dict[str, Any]:
    """Where the null is largest by mean size over seeds, and the score there."""
    part, layer = some["null"].abs().groupby([some["part"], some["layer"]]).mean().idxmax()
    here = some.loc[(some["part"] == part) & (some["layer"] == layer), ["null", "score"]].mean()
    name = f"{PARTS.get(part, part)} {layer}"
    return {"null_component": name, "null": here["null"], "null_score": here["score"]}


def components(run: Localized) -> Table:
    """Scores of every attention block and feed-forward layer."""
    frame = run.tables["scores"]
    values: dict[tuple, dict[str, float]] = {}
    for method in ordered(frame["method"]):
        for seed, part, layer, *cells in _rows(
            frame[frame["method"] == method], "seed", "part", "layer", *CELLS
        ):
            cell = values.setdefault((seed, label(method), layer), {})
            cell |= {f"{part}_{k}": v for k, v in zip(CELLS, cells, strict=True)}
    columns = tuple(
        Column(f"{part}_{name}", name.replace("low", "95 % from").replace("high", "to"), "f3", word)
        for part, word in PARTS.items()
        for name in CELLS
    )
    plain = [c.key for c in columns if not c.key.endswith("score")]
    caption = "Scores of attention blocks and feed-forward layers"
    return averaged(
        *("components", caption, values, (METHOD, LAYER), columns, ("tables/scores.csv",)),
        plain=plain,
    )


def probes(run: Localized) -> Table:
    """Accuracy of probes by position and state."""
    frame = run.tables["probes"]
    values: dict[tuple, dict[str, float]] = {}
    for seed, position, kind, row, right in _rows(
        frame, "seed", "position", "kind", "row", "accuracy"
    ):
        cell = values.setdefault((seed, POSITIONS.get(position, position), row), {})
        cell[kind] = right
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
        some = frame[frame["method"] == method]
        found = some.assign(size=some["share"].abs()).groupby(["layer", "head"])
        found = found.agg(size=("size", "mean"), share=("share", "mean"), sd=("share", "std"),
                          null=("null", "mean"))  # fmt: skip
        found = found.sort_values("size", ascending=False, kind="stable").head(STRONGEST)
        for place, ((layer, head), row) in enumerate(found.iterrows(), start=1):
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
    frame = run.tables["selections"]
    some = frame.drop_duplicates(["seed", "method"])
    cells = _rows(some, "seed", "method", "parameters_of_method", "overlap")
    every = some.loc[some["method"] == "nonlocalized", "parameters_of_method"]
    whole = float(every.iloc[0]) if len(every) else np.nan
    cells = {(s, m): (count, shared) for s, m, count, shared in cells}
    values = {
        (seed, label(name)): {"parameters": count, "share": count / whole, "overlap": shared}
        for name in ordered(frame["method"])
        for (seed, m), (count, shared) in cells.items()
        if m == name
    }
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
    names = {label(name): name for name in frame["method"].unique()}
    chosen = frame[frame["chosen"].astype(bool)]
    for part in PARTS:
        rows = chosen[chosen["part"] == part]
        by_seed = {m: rows[rows["method"] == name].groupby("seed") for m, name in names.items()}
        table.frame[part] = [
            usual([some["layer"] for _, some in by_seed[m]], len(run.done))
            for m in table.frame["method"]
        ]
    return table


def usual(chosen: Sequence[Iterable[int]], seeds: int) -> str:
    """Layers that at least half of the seeds chose, neighbours as `2–5`."""
    counts = Counter(int(layer) for some in chosen for layer in some)
    spans: list[list[int]] = []
    for layer in sorted(n for n, times in counts.items() if 2 * times >= seeds):
        if spans and spans[-1][1] == layer - 1:
            spans[-1][1] = layer
        else:
            spans.append([layer, layer])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in spans) or "none"


def agreement(run: Localized) -> Table:
    """How far two methods order the feed-forward layers alike, and choose the same."""
    frame, values = run.tables["agreement"], {}
    order = {name: place for place, name in enumerate(METHODS)}
    for seed, *names, spearman, jaccard in _rows(
        frame, "seed", "method_a", "method_b", "spearman", "jaccard"
    ):
        a, b = sorted(names, key=lambda n: order.get(n, len(order)))
        values[seed, label(a), label(b)] = {"spearman": spearman, "jaccard": jaccard}
    keys = (Column("method", "method", "text"), Column("other", "and", "text"))
    columns = (
        Column("spearman", "rank correlation (Spearman)", "f2"),
        Column("jaccard", "shared choice (Jaccard)", "f2"),
    )
    caption = "Agreement of two methods on feed-forward layers"
    return averaged("agreement", caption, values, keys, columns, ("tables/agreement.csv",))


def _rows(frame: pd.DataFrame, *columns: str) -> Iterable[tuple]:
    return zip(*(frame[c] for c in columns), strict=True)


def chance(run: Localized) -> Mapping[str, float]:
    """By position, the accuracy of always giving the most common answer, where the run says it."""
    frame = run.tables["probes"]
    return dict(frame.groupby("position")["chance"].mean()) if "chance" in frame else {}
