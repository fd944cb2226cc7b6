"""Page tables of how methods do against the layers where facts are looked up.

These are known where facts were planted. Elsewhere the layers that the probe rule chooses stand in
for them, which is a comparison with another method and no truth.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from relearn_jax.localize.methods import SETS_BUDGET
from relearn_jax.report.facts.methods import label, ordered
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.tables import Column, Table, averaged, in_order

METHOD = Column("method", "method", "text")


def finding(run: Localized) -> Table:
    """Precision, recall and area under the ROC of finding the planted layers."""
    frame = run.tables["truth"].rename(columns={"roc_area": "area"})
    frame = in_order(frame, method=ordered(frame["method"]))
    frame = frame.assign(method=frame["method"].map(label))
    several = len(run.done) > 1
    means = (
        Column("precision", "precision", "f2"),
        Column("recall", "recall", "f2"),
        Column("area", "area under the ROC", "f2"),
    )
    columns = (
        *means,
        *((Column("low", "least", "f2"), Column("high", "most", "f2")) if several else ()),
        Column("exact", "exactly right, seeds", "int"),
        Column("of", "of", "int"),
        Column("chosen", "chosen", "text"),
        Column("planted", "planted", "text"),
    )
    caption = "Finding the layers that facts were planted in"
    table = averaged("truth", caption, frame, (METHOD,), means, ("tables/truth.csv",))
    extra = [
        {"low": rows["area"].min(), "high": rows["area"].max(), "of": len(rows)}
        | {"exact": sum(map(_same, rows["planted"], rows["chosen"]))}
        | {name: _listed(rows[name]) for name in ("planted", "chosen")}
        for _, rows in frame.groupby("method", sort=False)
    ]
    names = ["low", "high", "exact", "of", "planted", "chosen"]
    full = pd.concat([table.frame, pd.DataFrame(extra, columns=names)], axis=1)
    return table._replace(frame=full, columns=columns)


def _same(planted: Iterable[int], chosen: Iterable[int]) -> bool:
    return set(planted) == set(chosen)


def _listed(layers: pd.Series) -> str:
    """`1`; with several seeds that differ, one after the other: `1 | 0 | 1`."""
    texts = [", ".join(str(int(layer)) for layer in chosen) or "none" for chosen in layers]
    return texts[0] if len(set(texts)) == 1 else " | ".join(texts)


def reference(run: Localized) -> tuple[bool, dict[int, tuple[int, ...]]]:
    """Whether facts were planted, and by seed the feed-forward layers that should be found.

    Without planted facts those that the probe rule chooses.
    """
    planted = run.tables["truth"]
    if len(planted):
        layers = planted.drop_duplicates("seed").set_index("seed")["planted"]
        return True, {int(seed): tuple(map(int, places)) for seed, places in layers.items()}
    frame = run.tables["selections"]
    use = frame["method"].isin(SETS_BUDGET) & (frame["part"] == "mlp")
    use &= frame["chosen"].astype(bool)
    layers = frame[use].groupby("seed")["layer"]
    return False, {int(seed): tuple(map(int, places)) for seed, places in layers}


def layers(run: Localized) -> tuple[int, ...]:
    """Layers that were planted in any seed, for figures."""
    planted, targets = reference(run)
    return tuple(sorted(set().union(*targets.values()))) if planted else ()


def lookup(run: Localized) -> Table:
    """Where each localizer ranks the lookup layers, among feed-forward layers and all components.

    Place 1 is the largest absolute score; ties share the mean of their places.
    """
    planted, targets = reference(run)
    frame = run.tables["scores"]
    methods = [name for name in ordered(frame["method"]) if planted or name not in SETS_BUDGET]
    records = [
        {"seed": seed, "method": label(name)} | places
        for name in methods
        for seed, layers in targets.items()
        if (places := _places(frame[(frame["method"] == name) & (frame["seed"] == seed)], layers))
    ]
    values = pd.DataFrame(records, columns=["seed", "method", *PLACES, *COUNTED])
    counts = values.groupby("method", sort=False)[list(COUNTED)].sum()
    counts.insert(0, "of", values.groupby("method", sort=False).size())
    which = "the planted layers" if planted else "the layers that the probe rule chooses"
    means = (
        Column("mlps_place", "mean place", _form(values, "mlps_place"), "among MLPs"),
        Column("mlps", "of", "int", "among MLPs"),
        Column("sites_place", "mean place", _form(values, "sites_place"), "among all components"),
        Column("sites", "of", "int", "among all components"),
    )
    columns = (
        *means[:2],
        Column("first", "first, seeds", "int", "among MLPs"),
        Column("all_first", "all before any other, seeds", "int", "among MLPs"),
        *means[2:],
        Column("low", "at or below the median, seeds", "int", "among all components"),
        Column("top", "one first, all in the first four, seeds", "int", "among all components"),
        Column("of", "seeds", "int"),
    )
    caption = f"Where each localizer ranks {which}, by the size of the score"
    sources = ("tables/scores.csv", "tables/truth.csv" if planted else "tables/selections.csv")
    plain = ("mlps", "sites")
    table = averaged("lookup", caption, values, (METHOD,), means, sources, plain)
    full = table.frame.join(counts, on="method")
    # A method that scores one part only has no place among all components.
    for column in ("low", "top"):
        full[column] = full[column].where(full["sites_place"].notna())
    return table._replace(frame=full, columns=columns)


def _form(values: pd.DataFrame, column: str) -> str:
    """Whole numbers where one seed has one layer, so that a place is a place."""
    places = values[column].dropna().astype(float)
    return "int" if values["seed"].nunique() == 1 and (places % 1 == 0).all() else "f1"


PLACES = ("mlps_place", "mlps", "sites_place", "sites")
COUNTED = ("first", "all_first", "low", "top")
"""Columns of `lookup` that count seeds."""


def _places(scores: pd.DataFrame, layers: tuple[int, ...]) -> dict[str, float | bool]:
    """Places of the wanted feed-forward layers, and what follows from them, for one seed."""
    mlp = scores[scores["part"] == "mlp"].set_index("layer")["score"].abs()
    if mlp.empty or not layers:
        return {}
    order = mlp.sort_values(ascending=False, kind="stable").index
    cell = {
        "mlps_place": mlp.rank(ascending=False)[list(layers)].mean(),
        "mlps": len(mlp),
        "first": mlp.idxmax() in layers,
        "all_first": set(order[: len(layers)]) == set(layers),
        "low": False,
        "top": False,
    }
    if scores["part"].nunique() > 1:
        sites = scores.set_index(["part", "layer"])["score"].abs()
        targets = [("mlp", layer) for layer in layers]
        places = sites.rank(ascending=False)[targets]
        cell |= {"sites": len(sites), "sites_place": places.mean()}
        cell["low"] = bool((sites[targets] <= sites.median()).all())
        cell["top"] = bool(places.min() == 1 and places.max() <= max(4, len(layers)))
    return cell
