"""The damage that pruning did to a model: the target, the other types, the controls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from relearn_jax.evaluation import selectivity
from relearn_jax.evaluation.entities import ALL
from relearn_jax.evaluation.selectivity import Damage

CONTROLS = ("layer_matched", "random")
"""Arms that the target's loss is compared with; the first that a run has."""
MEASURED = (
    *("base", "pruned", "target_loss", "others_base", "others_pruned", "others_loss"),
    *("control_pruned", "control_loss", "base_accuracy", "accuracy"),
    *("base_most_frequent", "most_frequent"),
)


def table(scores: pd.DataFrame, targets: dict[str, str]) -> pd.DataFrame:
    """What pruning did, by group, arm and seed, and as a mean over seeds (rows without a seed).

    Args:
      scores: the table of scores.
      targets: the target of each group.

    Returns:
      F1 of the base and of the pruned model on the target and, as a mean, on the other types that
      the base model has learned (where there are none: the accuracy on words outside entities),
      the relative losses, the same of the control, accuracy over words, the share of words with
      the most frequent label, and `kind` (`selectivity.judge`; an oracle has none).
    """
    words = scores[scores["variant"] == "word"]
    rows = [row for group, part in words.groupby("group", sort=False)
            for row in _of_group(str(group), targets[str(group)], part)]  # fmt: skip
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    means = frame.groupby(["group", "target", "others", "arm"], sort=False)[list(MEASURED)].mean()
    seeds = frame.groupby(["group", "arm"], sort=False).size()
    means = means.reset_index().assign(seed=pd.NA)
    means["seeds"] = [seeds[row.group, row.arm] for row in means.itertuples()]
    both = pd.concat([frame.assign(seeds=1), means], ignore_index=True)
    both["kind"] = [
        None if row.arm == "oracle" else selectivity.judge(_damage(row))
        for row in both.itertuples()
    ]
    return both.astype({"seed": "Int64"})


def _damage(row: Any) -> Damage:
    """Random neurons are their own control: what they take is specific to nothing."""
    control = row.target_loss if row.arm in CONTROLS else row.control_loss
    return Damage(
        row.base, row.target_loss, row.others_loss, control, row.most_frequent,
        row.base_most_frequent,
    )  # fmt: skip


def _of_group(group: str, target: str, scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    scored = scores["type"].unique()
    kind = target if target in scored else ALL
    base = scores[(scores["arm"] == "base") & (scores["stage"] == "base")]
    mean = base.groupby("type")["f1"].mean()
    others = [] if kind == ALL else [
        t for t in scored if t not in (ALL, target) and mean.get(t, 0) >= selectivity.LEARNED
    ]  # fmt: skip
    pruned = scores[scores["stage"] == "pruned"]
    control = next((arm for arm in CONTROLS if arm in set(pruned["arm"])), None)

    def measured(rows: pd.DataFrame) -> tuple[float, np.ndarray, pd.Series]:
        f1, words = rows.set_index("type")["f1"], rows[rows["type"] == ALL].iloc[0]
        return f1[kind], f1[others].to_numpy() if others else words[["outside"]].to_numpy(), words

    for (arm, seed), rows in pruned.groupby(["arm", "seed"], sort=False):
        before = base[base["seed"] == seed]
        of_control = pruned[(pruned["arm"] == control) & (pruned["seed"] == seed)]
        if before.empty:
            continue
        target_base, others_base, words_base = measured(before)
        target_pruned, others_pruned, words = measured(rows)
        spared = np.nan
        if arm not in CONTROLS and not of_control.empty:
            spared = measured(of_control)[0]
        yield {
            "group": group, "target": kind, "others": ", ".join(others) or "words outside entities",
            "arm": arm, "seed": seed,
            "base": target_base, "pruned": target_pruned,
            "target_loss": _lost(target_base, target_pruned),
            "others_base": others_base.mean(), "others_pruned": others_pruned.mean(),
            "others_loss": np.mean([*map(_lost, others_base, others_pruned)]),
            "control_pruned": spared, "control_loss": _lost(target_base, spared),
            "base_accuracy": words_base["accuracy"], "accuracy": words["accuracy"],
            "base_most_frequent": words_base["most_frequent"],
            "most_frequent": words["most_frequent"],
        }  # fmt: skip


def _lost(before: float, after: float) -> float:
    return 1 - after / before if before > 0 else np.nan
