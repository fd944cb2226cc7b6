"""The tables of docs/results_dose.md, from finished runs, as Markdown.

python scripts/summarize_dose.py RUN [RUN ...] [--figures FOLDER --group GROUP]

Several runs that differ in what is retrained (their text, or frozen regrowth) share their tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from summarize import markdown, spread

from relearn_jax.evaluation.entities import SMALLEST_LOSS
from relearn_jax.evaluation.seeds import half_width
from relearn_jax.neurons.ranking import RANKINGS
from relearn_jax.report.concepts import dose, figures
from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.claims import claims
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.page import findings
from relearn_jax.report.concepts.reading import Run, read_head, read_run
from relearn_jax.report.draw import Plot, save

END = 10**9
ARMS = ("concept", "layer_matched", "random", "bottom", "oracle")
SHOWN = ("concept", "layer_matched", "oracle")
"""Arms of the README's figure."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run directories")
    parser.add_argument("--figures", type=Path, help="folder for the first figure of the README")
    parser.add_argument(
        "--group", default="", help="its group, by the start of a name in the tables"
    )
    return parser.parse_args()


def read(folders: Iterable[Path]) -> dict[str, Run]:
    """Every group of all runs, by what tells it apart."""
    runs = [read_run(f, group.name) for f in folders for group in read_head(f)[2]]
    return {name(run): run for run in runs}


def name(run: Run) -> str:
    """`LOC, difference of means`, and what is not as in the main run."""
    group = run.group
    text = str(group.text or run.config["retrain"]["data"]).replace("_", " ")
    text = f"{text} sentences" if text.isdigit() else text
    other = [part for part in (text, group.regrowth) if part not in ("full", "free")]
    return ", ".join([group.target, RANKINGS[group.ranking].short, *other])


def interval(values: Iterable[float], digits: int = 2) -> str:
    """Mean and its 95 % interval over seeds."""
    values = pd.Series(list(values), dtype=float).dropna()
    if len(values) < 2:
        return spread(values, digits) + " (one seed)" * len(values)
    mean, half = values.mean(), half_width(values)
    return f"{mean:.{digits}f} [{mean - half:.{digits}f}, {mean + half:.{digits}f}]"


def damage(runs: Mapping[str, Run]) -> str:
    """What pruning at the automatic dose took, by target and ranking."""
    rows = {}
    for run in runs.values():
        frame = run.tables["damage"]
        seeds = frame[frame["seed"].notna()].set_index("arm")
        if "concept" not in seeds.index:
            continue
        own = seeds.loc[["concept"]].sort_values("seed")
        against = {arm: seeds.loc[[arm]] for arm in ARMS[1:4] if arm in seeds.index}
        rows[name(run)] = {
            "dose, by seed": ", ".join(f"{100 * f:.3g} %" for f in own["fraction_low"]),
            "F1": f"{spread(own['base'], 2)} → {spread(own['pruned'], 2)}",
            "others": f"{spread(own['others_base'], 2)} → {spread(own['others_pruned'], 2)}",
            **{
                f"F1, {ARM_NAMES[arm]}": spread(frame["pruned"], 2)
                for arm, frame in against.items()
            },
            "selectivity": interval(own["selectivity"]),
            "above its control": interval(own.get("against", ())),
            "verdict, by seed": ", ".join(own["kind"]),
        }
    return markdown(rows, "pruned")


def by_step(run: Run, kind: str | None = None) -> pd.DataFrame:
    """F1 on the target: a row for each arm and step, a column for each seed.

    The last step, which differs between texts and seeds, is `END`.
    """
    scores = run.tables["scores"]
    scores = scores[(scores["type"] == (kind or run.target)) & (scores["variant"] == "word")]
    scores = scores[scores["arm"] != "base"]
    last = scores.groupby(["arm", "seed"])["step"].transform("max")
    scores = scores.assign(step=scores["step"].where(scores["step"] < last, END))
    return scores.pivot_table(index=["arm", "step"], columns="seed", values="f1")


def base(run: Run) -> pd.Series:
    """F1 on the target of the trained base model, by seed."""
    scores = run.tables["scores"]
    own = scores[(scores["type"] == run.target) & (scores["variant"] == "word")]
    return own[(own["arm"] == "base") & (own["stage"] == "base")].set_index("seed")["f1"]


def headed(steps: Sequence[int]) -> list[tuple[int, str]]:
    """Steps with their column heads."""
    return [(step, "end" if step == END else str(step)) for step in steps]


def steps(runs: Mapping[str, Run]) -> str:
    """F1 on the target by step of retraining, for every arm."""
    rows = {}
    for key, run in runs.items():
        found = by_step(run)
        for arm in ARMS:
            if arm in found.index.get_level_values("arm"):
                some = found.loc[arm]
                row = {"base": spread(base(run), 2)}
                row |= {head: spread(some.loc[s], 2) for s, head in headed(some.index)}
                rows[f"{key}, {ARM_NAMES[arm]}"] = row
    return markdown(rows, "F1 on the target, by step")


def difference(first: pd.DataFrame, second: pd.DataFrame, scale: pd.Series) -> pd.DataFrame:
    """Of two arms at the steps of both, as a share of the base model's F1; a column for each seed.

    Rows are called by their heads.
    """
    both = first.index.intersection(second.index)
    gap = (first.loc[both] - second.loc[both]) / scale
    return gap.set_axis([head for _, head in headed(both)])


def lead(runs: Mapping[str, Run]) -> str:
    """How far the pruned model is ahead of one that never learned the type."""
    rows, by_ranking = {}, {}
    for key, run in runs.items():
        found = by_step(run)
        if {"concept", "oracle"} <= set(found.index.get_level_values("arm")):
            gap = difference(found.loc["concept"], found.loc["oracle"], base(run))
            rows[key] = gap
            by_ranking.setdefault(key.partition(", ")[2], []).append(gap)
    for key, gaps in by_ranking.items():
        if len(gaps) > 1:
            rows[f"mean of {len(gaps)} types, {key}"] = sum(gaps) / len(gaps)
    return differences(rows, "pruned less never learned, share of base F1")


def differences(rows: Mapping[str, pd.DataFrame], corner: str) -> str:
    """A row of means and intervals over seeds for each table of differences by step and seed."""
    shown = {
        key: {head: interval(gap.loc[head]) for head in gap.index} for key, gap in rows.items()
    }
    return markdown(shown, corner)


def speed(runs: Mapping[str, Run]) -> str:
    """Steps until a share of what was lost is regained, by seed, where anything was lost."""
    rows = {}
    for key, run in runs.items():
        found = run.tables["recovery"]
        found = found[(found["type"] == run.target) & (found["variant"] == "word")]
        found = found.drop_duplicates(["arm", "seed"]).sort_values("seed")
        for arm in (a for a in ARMS if a in set(found["arm"])):
            some = found[found["arm"] == arm]
            if some["lost"].mean() < SMALLEST_LOSS:
                continue
            rows[f"{key}, {ARM_NAMES[arm]}"] = {
                "lost": spread(some["lost"], 2),
                **{
                    f"steps to {share} %, by seed": ", ".join(
                        "never" if pd.isna(step) else f"{step:.0f}"
                        for step in some[f"steps_to_{share}"]
                    )
                    for share in (50, 90)
                },
                "regained at the end": interval(some["recovery"]),
            }
    return markdown(rows, "relearning")


def frozen(runs: Mapping[str, Run]) -> str:
    """Free less frozen regrowth, for groups that differ in nothing else."""
    rows = {}
    for key, run in runs.items():
        other = runs.get(f"{key}, frozen")
        if other is None:
            continue
        free, held = by_step(run), by_step(other)
        for arm in ARMS:
            if all(arm in found.index.get_level_values("arm") for found in (free, held)):
                rows[f"{key}, {ARM_NAMES[arm]}"] = difference(
                    free.loc[arm], held.loc[arm], base(run)
                )
    return differences(rows, "free less frozen, share of base F1")


def neurons(results: Mapping[str, Findings]) -> str:
    """Where the concept is, and what the neurons that took it over stood for before."""
    rows = {}
    for key, found in results.items():
        takers, centres = (found.tables[n].row("concept") for n in ("takers", "centres"))
        columns = {
            "primed more than others": (takers, "primed_more"),
            "blend": (takers, "blend"),
            "shift of the mean layer, beyond ranks": (centres, "shift_beyond"),
            "free of scale": (centres, "shift_free"),
        }
        rows[key] = {head: interval(row.by_seed(column)) for head, (row, column) in columns.items()}
    return markdown(rows, "neurons")


def where(runs: Mapping[str, Run], measure: str = "saliency_standardized") -> str:
    """Saliency of the target by layer: base, and after retraining, pruned and unpruned apart."""
    rows = {}
    for key, run in runs.items():
        found = run.tables["layers"]
        found = found[(found["measure"] == measure) & (found["concept"] == run.target)]
        found = found[found["arm"] == "concept"]
        for stage in ("base", "pruned", "round1"):
            for part in ("unpruned", "pruned"):
                some = found[(found["stage"] == stage) & (found["pruned"] == part)]
                if len(some):
                    means = some.groupby("layer")["mean"].mean()
                    rows[f"{key}, {part}, {stage}"] = {
                        str(layer): "–" if pd.isna(value) else f"{value:.2f}"
                        for layer, value in means.items()
                    }
    return markdown(rows, f"{measure} by state")


def judged(runs: Mapping[str, Run], results: Mapping[str, Findings]) -> str:
    """The status of every claim of the paper, by group."""
    rows: dict[str, dict[str, str]] = {}
    for key, run in runs.items():
        for claim in claims(run, results[key]):
            rows.setdefault(claim.title, {})[key] = claim.status
    return markdown(rows, "claim")


def draw(run: Run, folder: Path) -> None:
    """The dose curve of a group's ranking beside the first steps of its retraining."""
    ranked = run.tables["selectivity"]
    ranked = ranked[ranked["ranking"] == run.group.ranking]
    scores = run.tables["scores"]
    scores = scores[scores["arm"].isin(["base", *SHOWN])]
    arms = tuple(arm for arm in run.arms if arm in SHOWN)
    shown = replace(
        run, arms=arms, tables=dict(run.tables) | {"selectivity": ranked, "scores": scores}
    )
    curve, first = dose.plot(shown), figures.first_steps(shown, run.target)
    panels = (*curve.panels, *(panel._replace(size=(420, 285)) for panel in first.panels))
    others = (key for key in curve.legend if key.colour == "before")
    keys = (*figures.arm_keys(shown), *others, *first.legend[len(arms) :])
    save(Plot("dose", panels, keys), folder)


def main() -> None:
    options = parse()
    runs = read(options.runs)
    full = {key: run for key, run in runs.items() if key.count(", ") == 1}
    others = {key: run for key, run in runs.items() if "sentences" in key or "without" in key}
    whole = {key: run for key, run in runs.items() if key not in others}
    results = {key: findings(run) for key, run in full.items()}
    first = {k: r for k, r in full.items() if r.target == next(iter(full.values())).target}
    parts = {
        "What pruning took": partial(damage, full),
        "F1 by step": partial(steps, whole),
        "Steps to recover": partial(speed, whole),
        "Other texts": partial(steps, others),
        "Against a model that never learned the type": partial(
            lead, {key: run for key, run in runs.items() if "without" not in key}
        ),
        "Frozen regrowth": partial(frozen, runs),
        "Neurons": partial(neurons, results),
        "Saliency by layer": partial(where, first),
        "Claims": partial(judged, full, results),
    }
    seeds = sorted({int(s) for run in runs.values() for s in np.atleast_1d(run.seeds)})
    print(f"Seeds {seeds}; means ± standard deviation, or mean [95 % interval], over them\n")
    for title, part in parts.items():
        print(f"## {title}\n\n{part()}\n")
    if options.figures:
        draw(next(r for k, r in full.items() if k.startswith(options.group)), options.figures)


if __name__ == "__main__":
    main()
