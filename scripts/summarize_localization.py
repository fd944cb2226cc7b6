"""The tables of finished localizations as Markdown, for the documentation.

    python scripts/summarize_localization.py RUN [RUN ...]

Seeds that do not pass all their gates are counted and left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from summarize import markdown, table

from relearn_jax.localize import selection
from relearn_jax.localize.arms import RANDOM_MLPS
from relearn_jax.report.facts import reading, truth
from relearn_jax.report.facts.methods import METHODS, short

RESAMPLES = 10_000


def interval(values: pd.Series, digits: int = 2) -> str:
    """Mean over seeds, and the 95 % interval of a bootstrap over them."""
    found = values.to_numpy(float)
    rng = np.random.default_rng(0)
    means = rng.choice(found, (RESAMPLES, len(found))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{found.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def passing(run: Path) -> list[int]:
    """Seeds that pass all gates."""
    gates = table(run, "gates").groupby("seed").passed.all()
    print(f"Seeds that pass all gates: {gates.sum()} of {len(gates)}\n")
    return [int(seed) for seed, fine in gates.items() if fine]


def gates(frame: pd.DataFrame) -> str:
    rows = {}
    for name, some in frame.groupby("name", sort=False):
        worst = some.value.min() if some.at_least.iloc[0] else some.value.max()
        rule = "at least" if some.at_least.iloc[0] else "at most"
        rows[name] = {
            "limit": f"{rule} {some.limit.iloc[0]:g}",
            "mean": f"{some.value.mean():.3f}",
            "worst": f"{worst:.3f}",
        }
    return markdown(rows, "gate")


def components(frame: pd.DataFrame, part: str) -> str:
    """Mean scores over seeds by method and layer, their nulls in brackets."""
    frame, rows = frame[frame.part == part], {}
    for name in METHODS:
        means = frame[frame.method == name].groupby("layer")[["score", "null"]].mean()
        if len(means):
            rows[short(name)] = {
                str(layer): f"{row.score:.2f} ({row.null:.2f})" for layer, row in means.iterrows()
            }
    return markdown(rows, {"attention": "attention", "mlp": "MLP"}[part])


def probes(frame: pd.DataFrame) -> str:
    rows = {}
    for position in ("subject", "last"):
        some = frame[(frame.position == position) & frame.kind.isin(("states", "shuffled"))]
        for kind, part in some.groupby("kind", sort=False):
            rows[f"{position}, {kind}"] = {
                str(row): f"{value:.2f}"
                for row, value in part.groupby("row").accuracy.mean().items()
            }
    return markdown(rows, "probe")


def interchange(frame: pd.DataFrame) -> str:
    some, rows = frame[frame.method == "interchange"], {}
    for role in ("subject end", "between", "last"):
        best = some[some.role == role].groupby(["seed", "layer"])[["share", "null"]].max()
        means = best.groupby("layer").mean()
        rows[role] = {str(n): f"{row.share:.2f} ({row.null:.2f})" for n, row in means.iterrows()}
    return markdown(rows, "interchange")


def found(frame: pd.DataFrame) -> str:
    rows = {}
    for name in (*METHODS, RANDOM_MLPS.name):
        some = frame[frame.method == name]
        if len(some):
            exact = [set(a) == set(b) for a, b in zip(some.planted, some.chosen, strict=True)]
            rows[short(name)] = {
                "precision": interval(some.precision),
                "recall": interval(some.recall),
                "area under the ROC": interval(some.roc_area),
                "exactly right": f"{sum(exact)} of {len(exact)}",
            }
    return markdown(rows, "localizer")


def corrected(scores: pd.DataFrame, truths: pd.DataFrame) -> str:
    """Area under the ROC when a score is taken less its null."""
    planted = {row.seed: set(row.planted) for row in truths.itertuples()}
    rows = {}
    for name in METHODS:
        some = scores[(scores.method == name) & (scores.part == "mlp")]
        areas, exact = [], 0
        for seed, part in some.groupby("seed"):
            part = part.sort_values("layer")
            score = (part.score - part.null).abs().to_numpy()
            true = part.layer.isin(planted[seed]).to_numpy()
            areas.append(selection.roc_area(score, true))
            exact += set(part.layer.to_numpy()[np.argsort(-score)[: true.sum()]]) == planted[seed]
        rows[short(name)] = {
            "area, less the null": interval(pd.Series(areas)),
            "exactly right": f"{exact} of {len(areas)}",
        }
    return markdown(rows, "localizer")


def ranks(run: Path, seeds: list[int]) -> str:
    """Where each localizer ranks the planted layers, or those of the probe rule."""
    read = reading.read(run)
    kept = {n: f[f["seed"].isin(seeds)] if len(f) else f for n, f in read.tables.items()}
    rows = {}
    for row in truth.lookup(read.__class__(**(vars(read) | {"tables": kept}))).frame.to_dict(
        "records"
    ):
        rows[row["method"]] = {
            "mean place among MLPs": f"{row['mlps_place']:.1f} of {row['mlps']:.0f}",
            "first MLP is one": f"{row['first']} of {row['of']}",
            "all before any other": f"{row['all_first']} of {row['of']}",
            "mean place among components": _or_blank(row, "{sites_place:.1f} of {sites:.0f}"),
            "at or below the median": _or_blank(row, "{low:.0f} of {of}"),
            "one first, all in four": _or_blank(row, "{top:.0f} of {of}"),
        }
    return markdown(rows, "localizer")


def planted_parts(kept: dict[str, pd.DataFrame]) -> list[str]:
    """What can be said only where facts were planted."""
    if not len(kept["truth"]):
        return []
    return [found(kept["truth"]), corrected(kept["scores"], kept["truth"])]


def _or_blank(row: dict, text: str) -> str:
    """Methods that score one part only have no place among all components."""
    return text.format(**row) if row["sites_place"] == row["sites_place"] else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run directories")
    for run in parser.parse_args().runs:
        print(f"## {run.name}\n")
        seeds = passing(run)
        frames = {name: table(run, name) for name in ("gates", "scores", "probes", "maps", "truth")}
        kept = {n: f[f.seed.isin(seeds)] if len(f) else f for n, f in frames.items()}
        parts = [
            gates(frames["gates"]), interchange(kept["maps"]), probes(kept["probes"]),
            *(components(kept["scores"], part) for part in ("mlp", "attention")),
            *planted_parts(kept), ranks(run, seeds),
        ]  # fmt: skip
        print("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
