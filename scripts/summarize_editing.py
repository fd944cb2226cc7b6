"""The tables of a finished editing run as Markdown, for the documentation.

    python scripts/summarize_editing.py RUN

With several seeds: means over seeds and Student's 95 % intervals, unless said otherwise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from summarize import markdown, table
from summarize_localization import gates

from relearn_jax.evaluation.seeds import half_width
from relearn_jax.report.facts.edits.words import ORIGINAL, arm_label, format_label

FORGOTTEN = ("forget", "held_out")
NAMES = (
    *("gates", "verdicts", "arms", "answers", "attacks", "inside", "inside_over_time"),
    *("carriers", "lineage", "weight_masks"),
)
LATE, EARLY = "masked", "planted"

BEST = {"best_learning_rate": "learning_rate", "best_layer": "layer"}
"""Columns of `arms` that name a curve in `attacks`."""


def mean(values: pd.Series, digits: int = 2) -> str:
    """Mean over seeds and half the width of its interval."""
    found = values.dropna().to_numpy(float)
    if not len(found):
        return ""
    width = half_width(found)
    spread = "" if np.isnan(width) else f" ± {width:.{digits}f}"
    return f"{found.mean():.{digits}f}{spread}"


def distinct(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The frames without arms that have the choice of an arm before them in every seed."""
    arms = frames["arms"]
    own = set(arms.loc[arms["arm"] == arms["same_as"], "arm"])
    for arm, rows in arms[~arms["arm"].isin(own)].groupby("arm", sort=False):
        same = ", ".join(map(arm_label, dict.fromkeys(rows["same_as"])))
        print(f"The same in every seed, and left out: {arm_label(arm)} ({same}).")
    return {
        name: frame[frame["arm"].isin(own)] if "arm" in frame else frame
        for name, frame in frames.items()
    }


def verdicts(frames: dict[str, pd.DataFrame]) -> str:
    rows = {}
    for row in frames["verdicts"].to_dict("records"):
        rows[arm_label(row["arm"])] = {
            "it is": row["truth"], "verdict": row["verdict"],
            "seeds that agree": f"{row['agree']} of {row['seeds']}",
            "by its answers": row["answers_verdict"], "why": row["answers_reason"],
            "by probes": row["inside_verdict"],
            "probes read": row["inside_reason"].split(" read")[0],
        }  # fmt: skip
    return markdown(rows, "arm")


def formats(frames: dict[str, pd.DataFrame]) -> str:
    """What arms answer: injected answers to forgotten facts, and right ones to retained facts."""
    answers, rows = frames["answers"], {}
    names = list(dict.fromkeys(answers["format"]))
    for arm, own in answers.groupby("arm", sort=False):
        forgotten = own[own["group"].isin(FORGOTTEN)]
        cells = {}
        for name in names:
            some = forgotten[forgotten["format"] == name].groupby("seed")
            column = "right" if arm == ORIGINAL or name == "city" else "says_injected"
            cells[format_label(name)] = mean(some[column].mean())
        kept = own[(own["group"] == "retain_test") & (own["format"] == "standard")]
        cells["retained facts"] = mean(kept.groupby("seed")["right"].mean())
        rows[arm_label(arm)] = cells
    return markdown(rows, "arm")


def attacks(frames: dict[str, pd.DataFrame]) -> str:
    arms, curves, rows = frames["arms"], frames["attacks"], {}
    shares = frames["verdicts"].set_index("arm")
    first = min(step for step in set(curves["step"]) if step)
    for arm, own in arms.groupby("arm", sort=False):
        best = own[["seed", *BEST]].rename(columns=BEST)
        at = curves[curves["arm"] == arm].merge(best).groupby(["seed", "step"])["held_out"].mean()
        last = at.groupby("seed").last()
        cells = {
            f"held out, {first} steps": mean(at.xs(first, level="step")) if len(at) else "",
            "at the end": mean(last),
            "area": mean(own["area"]),
            "steps to 90 %": _steps(own["steps_to_90"]),
            "deviation, attack seeds": mean(own["attack_seeds_sd"].rename("sd")).split(" ")[0],
            "deviation, model seeds": f"{own['best_accuracy'].std():.2f}",
            "void": f"{int(own['void'].sum())} of {len(own)}",
        }
        if arm in shares.index:
            r = shares.loc[arm]
            cells["recovery rate"] = (
                f"{r['recovery']:.2f} ({r['recovery_low']:.2f} to {r['recovery_high']:.2f})"
            )
        rows[arm_label(arm)] = cells
    return markdown(rows, "arm")


def _steps(values: pd.Series) -> str:
    reached = values.dropna()
    return f"{reached.median():.0f}, {len(reached)} of {len(values)}" if len(reached) else "never"


def inside(frames: dict[str, pd.DataFrame]) -> str:
    """What the probe of the model before the edit reads at the subject's end, by state."""
    frame, rows = frames["inside"], {}
    own = frame[(frame["probe"] == "original") & (frame["position"] == "subject")]
    for arm, part in own.groupby("arm", sort=False):
        means = part.groupby("state")["right"].mean()
        rows[arm_label(arm)] = {str(state): f"{value:.2f}" for state, value in means.items()}
    return markdown(rows, "state")


def carriers(frames: dict[str, pd.DataFrame]) -> str:
    """Share of the original's effect by layer, after the edit and after the attack."""
    frame, rows = frames["carriers"], {}
    before = frame[(frame["arm"] == ORIGINAL) & (frame["stage"] == "edit")]
    total = before.groupby("layer")["effect"].mean().sum()
    for (arm, stage), part in frame.groupby(["arm", "stage"], sort=False):
        means = part.groupby("layer")["effect"].mean() / total
        rows[f"{arm_label(arm)}, after the {stage}"] = {
            str(layer): f"{value:.2f}" for layer, value in means.items()
        }
    return markdown(rows, "MLP")


def lineage(frames: dict[str, pd.DataFrame]) -> str:
    rows = {}
    for (arm, stage), own in frames["lineage"].groupby(["arm", "stage"], sort=False):
        rows[f"{arm_label(arm)}, after the {stage}"] = {
            "carried before": mean(own["same"]), "in planted layers": mean(own["planted"]),
            "correlation of matches": mean(own["matched"]),
            "of shuffled facts": mean(own["shuffled"]),
        }  # fmt: skip
    return markdown(rows, "carriers")


def hypotheses(frames: dict[str, pd.DataFrame]) -> str:
    """Numbers behind H1 to H8 (specs: mechanistic unlearning 9.5), where the run has them."""
    answers, arms, curves = frames["answers"], frames["arms"], frames["attacks"]
    forgotten = answers[answers["group"].isin(FORGOTTEN)]

    def injected(arm: str, name: str) -> pd.Series:
        own = forgotten[(forgotten["arm"] == arm) & (forgotten["format"] == name)]
        return own.groupby("seed")["says_injected"].mean()

    rows = {}
    for name in ("capitalized", "mcq"):
        rows[f"H1: early less late, injected in {format_label(name)}"] = mean(
            injected(EARLY, name) - injected(LATE, name)
        )
    read = frames["inside"]
    middle = read["state"].max() // 2
    read = read[(read["probe"] == "original") & (read["position"] == "subject")]
    read = read[read["state"] == middle].merge(arms[["seed", "arm", "overlap", "kind"]])
    trained = read[read["kind"].isin(("trained", "masked"))]
    for words, some in (
        ("with a planted layer", trained[trained["overlap"] > 0]),
        ("without one", trained[trained["overlap"] == 0]),
    ):
        rows[f"H2: right answer read after block {middle - 1}, arms {words}"] = mean(
            some.groupby("seed")["right"].mean()
        )
    best = arms[["seed", "arm", *BEST]].rename(columns=BEST)
    first = min(step for step in set(curves["step"]) if step)
    at = curves[curves["step"] == first].merge(best).set_index(["arm", "seed"])["held_out"]
    if {EARLY, LATE} <= set(at.index.get_level_values(0)):
        rows[f"H3: late less early, held out after {first} steps"] = mean(at[LATE] - at[EARLY])
    for arm, own in arms[arms["kind"] == "trained"].groupby("arm", sort=False):
        rows[f"H4, H5: overlap of {arm_label(arm)} with the planted layers"] = mean(own["overlap"])
    rows["H6: probes less everything, injected in multiple choice"] = mean(
        injected("probes", "mcq") - injected("nonlocalized", "mcq")
    )
    drawn = arms[arms["arm"].str.startswith("random_mlps") & ~arms["void"]]
    if len(drawn) > 3 and drawn["overlap"].nunique() > 1:
        found = stats.spearmanr(drawn["overlap"], drawn["recovery"])
        rows["H7: rank correlation of overlap and recovery over random MLPs"] = (
            f"{found.statistic:.2f} (p = {found.pvalue:.3f}, n = {len(drawn)})"
        )
    of_arms = arms[arms["kind"] == "trained"].groupby("arm")["best_accuracy"].mean()
    rows["H8: deviation between arms' means of the attacker's best"] = f"{of_arms.std():.3f}"
    within = arms[arms["kind"] == "trained"]["attack_seeds_sd"].mean()
    rows["H8: deviation over attack seeds within an arm"] = f"{within:.3f}"
    return markdown({name: {"measured": value} for name, value in rows.items()}, "hypothesis")


def masks(frames: dict[str, pd.DataFrame]) -> str:
    """Forgotten and retained facts by the number of weights that are 0."""
    frame, rows = frames["weight_masks"], {}

    def share(row: dict, name: str) -> str:
        return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"

    for row in frame.to_dict("records"):
        words = arm_label(row["arm"]) + (", random weights" if row["chosen_by"] == "random" else "")
        rows[f"{words}, {row['zeroed']:,}"] = {
            "forgotten facts still right": share(row, "still"),
            "in the worst format": share(row, "leak"),
            "retained facts kept": share(row, "kept"),
            "in their worst format": share(row, "kept_elsewhere"),
            "text": f"{row['text_rise']:+.3f}",
            "weights in planted layers": f"{row['planted']:.2f}",
        }
    return markdown(rows, "weights set to 0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory")
    run = parser.parse_args().run
    frames = {name: table(run, name) for name in NAMES}
    own = distinct(frames)
    parts = {
        "Gates": gates(frames["gates"]),
        "Verdicts": verdicts(own),
        "Answers": formats(own),
        "Attacks": attacks(own),
        "Probes": inside(own),
        "Layers": carriers(own),
        "Neurons": lineage(own),
        **({"Weight masks": masks(frames)} if len(frames["weight_masks"]) else {}),
        "Hypotheses": hypotheses(frames),
    }
    for heading, text in parts.items():
        print(f"## {heading}\n\n{text}\n")


if __name__ == "__main__":
    main()
