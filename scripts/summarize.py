"""The tables of a finished run as Markdown, for the documentation.

python scripts/summarize.py RUN
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory")
    return parser.parse_args()


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(run / "tables" / f"{name}.parquet")


def spread(values: pd.Series, digits: int = 3) -> str:
    """Mean and, over several seeds, standard deviation; values that are missing do not count."""
    if not values.count():
        return "–"
    text = f"{values.mean():.{digits}f}"
    return text + (f" ± {values.std():.{digits}f}" if values.count() > 1 else "")


def markdown(rows: dict[str, dict[str, str]], corner: str) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(row.get(c, "–") for c in columns) + " |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def task(run: Path, facts: dict, kind: str) -> str:
    """F1 of each arm at every stage."""
    scores = table(run, "scores")
    scores = scores[(scores.type == kind) & (scores.variant == "word") & (scores.stage != "")]
    base = spread(scores[scores.arm == "base"].f1)
    stages = ["pruned", *(f"round{i + 1}" for i in range(facts["rounds"]))]
    rows = {
        arm: {"base": base}
        | {s: spread(scores[(scores.arm == arm) & (scores.stage == s)].f1) for s in stages}
        for arm in facts["arms"]
    }
    return markdown(rows, f"F1, {kind}")


def recovery(run: Path, facts: dict, kind: str) -> str:
    """Share of the lost F1 that each round regained."""
    found = table(run, "recovery")
    found = found[(found.type == kind) & (found.variant == "word")]
    rows = {}
    for arm in facts["arms"]:
        some = found[found.arm == arm]
        rounds = {
            f"round {r}": spread(some[some["round"] == r].recovery, 2)
            for r in sorted(some["round"].unique())
        }
        first = some.drop_duplicates("seed").epochs_to_90
        reached = ", ".join("never" if pd.isna(e) else f"{e:.0f}" for e in first)
        rows[arm] = rounds | {"epochs to 90 %, by seed": reached}
    return markdown(rows, f"recovery, {kind}")


def by_layer(run: Path, facts: dict, measure: str, arms: list[str], stages: list[str]) -> str:
    """A measure of the removed concept by layer, pruned and unpruned neurons apart."""
    found = table(run, "layers")
    found = found[(found.measure == measure) & (found.concept == facts["target"])]
    rows = {}
    for arm in arms:
        for group in ("unpruned", "pruned"):
            for stage in stages:
                some = found[(found.arm == arm) & (found.stage == stage) & (found.pruned == group)]
                if len(some):
                    means = some.groupby("layer")["mean"].mean()
                    rows[f"{arm}, {group}, {stage}"] = {
                        str(layer): "–" if pd.isna(v) else f"{v:.2f}" for layer, v in means.items()
                    }
    return markdown(rows, f"{measure} by state")


def similarity(run: Path, facts: dict, stage: str) -> str:
    """Similarity of changed neurons to their base tokens, with the null of random pairs."""
    found, null = table(run, "layers"), table(run, "similarity_null")
    rows = {}
    for arm in facts["arms"]:
        for group in ("unpruned", "pruned"):
            some = found[
                (found.measure == "similarity") & (found.arm == arm) & (found.stage == stage)
            ]
            some = some[some.pruned == group].groupby("layer")["mean"].mean()
            chance = null[(null.arm == arm) & (null.stage == stage) & (null.pruned == group)]
            chance = chance.groupby("layer")[["low", "high"]].mean()
            rows[f"{arm}, {group}"] = {
                str(layer): "–"
                if pd.isna(v)
                else f"{v:.2f} ({chance.low[layer]:.2f} to {chance.high[layer]:.2f})"
                for layer, v in some.items()
            }
    return markdown(rows, "similarity by state (null)")


def main() -> None:
    run = parse().run
    facts = json.loads((run / "manifest.json").read_text())
    last = f"round{facts['rounds']}"
    print(f"Seeds {facts['seeds']}; devices {facts['devices']}; versions {facts['versions']}\n")
    for kind in ("all", *facts["concepts"]):
        print(task(run, facts, kind), "\n")
    for kind in ("all", facts["target"]):
        print(recovery(run, facts, kind), "\n")
    stages = ["base", "round1", last]
    arms = [a for a in ("concept", "layer_matched") if a in facts["arms"]]
    for measure in ("saliency_rank", "saliency_standardized"):
        print(by_layer(run, facts, measure, arms, stages), "\n")
    print(similarity(run, facts, last), "\n")
    print(by_layer(run, facts, "target_share", arms, ["base", last]))


if __name__ == "__main__":
    main()
