"""Tables of the dose curve: scores at every point, and the choice of the automatic dose.

Letters: R draws of the bootstrap over sentences, U masks of a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from relearn_jax import runs
from relearn_jax.config import Relearning
from relearn_jax.evaluation import entities, selectivity
from relearn_jax.evaluation.selectivity import Counts
from relearn_jax.experiments.concepts.dose import choice
from relearn_jax.experiments.concepts.dose.curve import stage_name


class Curve(NamedTuple):
    """The curve of one seed for one kind of pruning."""

    seed: int
    zeroed: str
    points: pd.DataFrame
    """A row for each point; `row` is that of its mask. Row 0 is the base model."""
    counts: Counts
    most_frequent: Float[np.ndarray, " U"]
    scores: Float[np.ndarray, "U Y+2"]
    draws: Float[np.ndarray, "R U Y+2"]


def curves(settings: Relearning, out: Path) -> list[Curve]:
    """The finished curves of a run."""
    found = []
    for seed in settings.seeds:
        name = stage_name(seed)
        if not runs.has_arrays(out, name, "counts"):
            continue
        points = pd.DataFrame(runs.read_json(runs.record_file(out, name))["points"])
        arrays = runs.arrays_of(out, name, "counts")
        for zeroed, rows in points.groupby("zeroed", sort=False):
            counts = Counts(arrays[f"{zeroed}/entities"], arrays[f"{zeroed}/words"])
            found.append(
                Curve(
                    seed,
                    zeroed,
                    rows,
                    counts,
                    arrays[f"{zeroed}/most_frequent"],
                    selectivity.scores(counts),
                    selectivity.resampled(counts, settings.dose.draws, settings.dose.seed),
                )
            )
    return found


def score_rows(curves: Sequence[Curve], types: Sequence[str]) -> pd.DataFrame:
    """F1 of every type, and of all together, at every point of every seed."""
    frames = []
    for curve in curves:
        row = curve.points["row"].to_numpy()
        by_type = {entities.ALL: curve.scores[:, selectivity.ALL]}
        by_type |= {kind: curve.scores[:, y] for y, kind in enumerate(types)}
        for kind, f1 in by_type.items():
            frame = curve.points.drop(columns="row").assign(
                seed=curve.seed, type=kind, f1=f1[row], base=f1[0]
            )
            if kind == entities.ALL:
                frame["outside_accuracy"] = curve.scores[row, selectivity.OUTSIDE]
                frame["most_frequent"] = curve.most_frequent[row]
                frame["base_most_frequent"] = curve.most_frequent[0]
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def choice_rows(settings: Relearning, out: Path) -> list[dict[str, Any]]:
    """The curves on the concept text by which `auto` was chosen; `chosen` marks the fraction."""
    rows = []
    for seed in settings.seeds:
        path = runs.record_file(out, choice.stage_name(seed))
        if not path.is_file():
            continue
        for record in runs.read_json(path)["choices"]:
            columns = zip(
                record["fractions"], record["target_loss"], record["others_loss"], strict=True
            )
            rows += [
                {
                    "seed": seed, "target": record["target"], "ranking": record["ranking"],
                    "fraction": fraction, "target_loss": target, "others_loss": others,
                    "chosen": fraction == record["fraction"],
                }
                for fraction, target, others in columns
            ]  # fmt: skip
    return rows
