"""Page tables of how methods do against the layers where facts are looked up.

These are known where facts were planted. Elsewhere the layers that the probe rule chooses stand in
for them, which is a comparison with another method and no truth.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from relearn_jax.report.facts.methods import label, ordered
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.tables import Column, Table, averaged

METHOD = Column("method", "method", "text")
CHANCE = "random_mlps"


def found(run: Localized) -> Table:
    """Precision, recall and area under the ROC of finding the planted layers."""
    frame = run.tables["truth"]
    order = ordered(frame["method"])
    values, ranges, chosen = {}, {}, {}
    for name in order:
        rows = frame[frame["method"] == name]
        for row in rows.to_dict("records"):
            values[row["seed"], label(name)] = {k: row[k] for k in ("precision", "recall")} | {
                "area": row["roc_area"]
            }
        exact = [set(r["planted"]) == set(r["chosen"]) for r in rows.to_dict("records")]
        ranges[label(name)] = {"low": rows["roc_area"].min(), "high": rows["roc_area"].max()} | {
            "exact": sum(exact), "of": len(exact)
        }  # fmt: skip
        chosen[label(name)] = {k: _listed(rows[k]) for k in ("planted", "chosen")}
    several = len(run.done) > 1
    columns = (
        Column("precision", "precision", "f2"),
        Column("recall", "recall", "f2"),
        Column("area", "area under the ROC", "f2"),
        *((Column("low", "least", "f2"), Column("high", "most", "f2")) if several else ()),
        Column("exact", "exactly right, seeds", "int"),
        Column("of", "of", "int"),
        Column("chosen", "chosen", "text"),
        Column("planted", "planted", "text"),
    )
    caption = "Finding the layers that facts were planted in"
    kept = tuple(c for c in columns if c.key in ("precision", "recall", "area"))
    table = averaged("truth", caption, values, (METHOD,), kept, ("tables/truth.csv",))
    extra = pd.DataFrame([ranges[m] | chosen[m] for m in table.frame["method"]])
    frame = pd.concat([table.frame, extra], axis=1)
    return table._replace(frame=frame, columns=columns)


def _listed(layers: pd.Series) -> str:
    """`1`; with several seeds that differ, one after the other: `1 | 0 | 1`."""
    every = [", ".join(str(int(layer)) for layer in some) or "none" for some in layers]
    return every[0] if len(set(every)) == 1 else " | ".join(every)


def reference(run: Localized) -> tuple[bool, dict[int, tuple[int, ...]]]:
    """Whether facts were planted, and by seed the feed-forward layers that should be found.

    Without planted facts those that the probe rule chooses.
    """
    planted = run.tables["truth"]
    if len(planted):
        rows = planted.drop_duplicates("seed")
        return True, {int(s): tuple(map(int, p)) for s, p in zip(rows["seed"], rows["planted"],
                                                                 strict=True)}  # fmt: skip
    frame = run.tables["selections"]
    use = (frame["method"] == "probes") & (frame["part"] == "mlp") & frame["chosen"].astype(bool)
    rows = frame[use]
    return False, {int(s): tuple(map(int, some)) for s, some in rows.groupby("seed")["layer"]}


def layers(run: Localized) -> tuple[int, ...]:
    """Layers that were planted in any seed, for figures."""
    planted, wanted = reference(run)
    return tuple(sorted({n for some in wanted.values() for n in some})) if planted else ()


def lookup(run: Localized) -> Table:
    """Where each localizer ranks the lookup layers, among feed-forward layers and all components.

    Place 1 is the largest absolute score; ties share the mean of their places.
    """
    planted, wanted = reference(run)
    frame, values = run.tables["scores"], {}
    counts: dict[str, dict[str, int]] = {}
    for name in ordered(frame["method"]):
        if not planted and name == "probes":
            continue
        for seed, layers in wanted.items():
            some = frame[(frame["method"] == name) & (frame["seed"] == seed)]
            cell = _places(some, layers)
            if cell:
                values[seed, label(name)] = cell
                total = counts.setdefault(label(name), dict.fromkeys(("of", *_COUNTED), 0))
                total["of"] += 1
                for key in _COUNTED:
                    total[key] += bool(cell[key])
    which = "the planted layers" if planted else "the layers that the probe rule chooses"
    columns = (
        Column("mlps_place", "mean place", _form(values, "mlps_place"), "among MLPs"),
        Column("mlps", "of", "int", "among MLPs"),
        Column("first", "first, seeds", "int", "among MLPs"),
        Column("all_first", "all before any other, seeds", "int", "among MLPs"),
        Column("sites_place", "mean place", _form(values, "sites_place"), "among all components"),
        Column("sites", "of", "int", "among all components"),
        Column("low", "at or below the median, seeds", "int", "among all components"),
        Column("top", "one first, all in the first four, seeds", "int", "among all components"),
        Column("of", "seeds", "int"),
    )
    caption = f"Where each localizer ranks {which}, by the size of the score"
    kept = tuple(c for c in columns if c.key not in counted_columns())
    sources = ("tables/scores.csv", "tables/truth.csv" if planted else "tables/selections.csv")
    table = averaged(
        *("lookup", caption, values, (METHOD,), kept, sources), plain=("mlps", "sites")
    )
    extra = pd.DataFrame([counts[m] for m in table.frame["method"]], columns=["of", *_COUNTED])
    full = pd.concat([table.frame, extra], axis=1)
    # A method that scores one part only has no place among all components.
    for column in ("low", "top"):
        full[column] = full[column].where(full["sites_place"].notna())
    return table._replace(frame=full, columns=columns)


def _form(values: dict[tuple, dict[str, float]], column: str) -> str:
    """Whole numbers where one seed has one layer, so that a place is a place."""
    found = [v[column] for v in values.values() if v[column] == v[column]]
    seeds = {seed for seed, _ in values}
    return "int" if len(seeds) == 1 and all(v == round(v) for v in found) else "f1"


_COUNTED = ("first", "all_first", "low", "top")


def counted_columns() -> tuple[str, ...]:
    """Columns of `lookup` that count seeds."""
    return ("of", *_COUNTED)


def _places(some: pd.DataFrame, layers: tuple[int, ...]) -> dict[str, float]:
    """Places of the wanted feed-forward layers, and what follows from them, for one seed."""
    mlp = some[some["part"] == "mlp"].set_index("layer")["score"].abs()
    if mlp.empty or not layers:
        return {}
    place = mlp.rank(ascending=False)
    cell = {
        "mlps_place": float(place[list(layers)].mean()),
        "mlps": float(len(mlp)),
        "first": bool(mlp.idxmax() in layers),
        "all_first": set(mlp.sort_values(ascending=False, kind="stable").index[: len(layers)])
        == set(layers),
        "sites_place": np.nan,
        "sites": np.nan,
        "low": False,
        "top": False,
    }
    if some["part"].nunique() > 1:
        sites = some.set_index(["part", "layer"])["score"].abs()
        wanted = [("mlp", layer) for layer in layers]
        cell["sites"] = float(len(sites))
        cell["sites_place"] = float(sites.rank(ascending=False)[wanted].mean())
        cell["low"] = bool((sites[wanted] <= sites.median()).all())
        places = sites.rank(ascending=False)[wanted]
        cell["top"] = bool(places.min() == 1 and places.max() <= max(4, len(layers)))
    return cell
