"""Adds what runs have since there are dose curves to a made-up run directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from fake_run import TYPES, Shape

from relearn_jax.config import Prune, Relearning, Sets
from relearn_jax.evaluation import selectivity
from relearn_jax.evaluation.selectivity import Counts
from relearn_jax.experiments.concepts import damage
from relearn_jax.experiments.concepts.dose import losses
from relearn_jax.experiments.concepts.dose.tables import Curve, score_rows

FRACTIONS = (0.01, 0.1, 0.25, 0.5)
SENTENCES = 40
HARM = {
    "removed": {"target": 0.97, "others": 0.1, "control": 0.05},
    "partial": {"target": 0.7, "others": 0.1, "control": 0.05},
    "collapsed": {"target": 0.97, "others": 0.9, "control": 0.9},
    "unspecific": {"target": 0.97, "others": 0.1, "control": 0.9},
    "slight": {"target": 0.1, "others": 0.05, "control": 0.05},
}


def add(folder: Path, shape: Shape, kind: str, rankings=("probeless", "mean_difference")) -> Path:
    """Make the damage in every group of a run this kind, and write its tables and curves."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["dose"] = {"fractions": list(FRACTIONS)}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    file = folder / "tables" / "scores.parquet"
    scores = pd.read_parquet(file).assign(outside=0.9, most_frequent=0.8)
    scores["step"] = 10 * scores["epoch"]
    harm = HARM[kind]
    targets = {group.name: group.target for group in shape.groups}
    is_target = scores["type"] == scores["group"].map(targets)
    f1 = scores["f1"].where(scores["stage"] != "pruned", 0.6)
    for arm in shape.arms:
        here = (scores["stage"] == "pruned") & (scores["arm"] == arm)
        lost = harm["target"] if arm == "concept" else harm["control"]
        spared = harm["others"] if arm == "concept" else 0.05
        f1 = f1.where(~here, np.where(is_target, 0.65 * (1 - lost), 0.65 * (1 - spared)))
    scores["f1"] = f1
    scores.to_parquet(file, index=False)
    curves = [_curve(seed, shape, harm, rankings) for seed in shape.seeds]
    settings = Relearning(
        seeds=shape.seeds,
        arms=shape.arms,
        prune=Prune(),
        sets=Sets(concepts=tuple(dict.fromkeys(targets.values())), fractions=(0.25, 0.5)),
    )
    size = shape.rows * shape.channels
    of_groups = losses.group_rows(curves, TYPES, settings, {}, size)
    table = damage.table(scores, targets)
    left_out = ["target", "others", "seeds", "target_loss", "others_loss"]
    table = table.merge(of_groups.drop(columns=left_out), how="left", on=["group", "arm", "seed"])
    for name, frame in (
        ("damage", table),
        ("selectivity", losses.selectivity_rows(curves, TYPES)),
        ("dose", score_rows(curves, TYPES)),
    ):
        frame.to_parquet(folder / "tables" / f"{name}.parquet", index=False)
    return folder


def _curve(seed: int, shape: Shape, harm: dict, rankings) -> Curve:
    rng = np.random.default_rng(seed)
    targets = dict.fromkeys(group.target for group in shape.groups)
    points, losses_of = [], [np.zeros(len(TYPES))]
    for target in targets:
        for ranking in rankings:
            for arm in shape.arms:
                for fraction in FRACTIONS:
                    points.append(
                        {
                            "target": target, "ranking": ranking, "zeroed": "ln_gain", "arm": arm,
                            "fraction": fraction, "row": len(losses_of),
                            "neurons": int(fraction * shape.rows * shape.channels),
                        }
                    )  # fmt: skip
                    own = harm["target"] if arm == "concept" else harm["control"]
                    lost = np.full(len(TYPES), harm["others"] * fraction * 2)
                    lost[TYPES.index(target)] = own * min(1, 4 * fraction)
                    losses_of.append(lost)
    gold = rng.integers(1, 4, (SENTENCES, len(TYPES)))
    correct = rng.binomial(gold, 0.7 * (1 - np.clip(losses_of, 0, 1))[:, None, :])
    found = np.stack([correct, *[np.broadcast_to(gold, correct.shape)] * 2], -1)
    words = np.broadcast_to(np.array([9, 8]), (len(losses_of), SENTENCES, 2))
    counts = Counts(found, words)
    return Curve(
        seed,
        "ln_gain",
        pd.DataFrame(points),
        counts,
        np.full(len(losses_of), 0.8),
        selectivity.scores(counts),
        selectivity.resampled(counts, 100, 0),
    )
