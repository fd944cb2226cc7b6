"""Reading a group of a run back, and what is still missing.

A group is all that was done for one target concept, fraction and regrowth: its seeds and arms.
Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from relearn_jax.errors import UserError
from relearn_jax.neurons import saliency
from relearn_jax.report.reading import read_files, read_table, table_path

COLUMNS: dict[str, tuple[str, ...]] = {
    "scores": (
        *("seed", "arm", "stage", "round", "epoch", "type", "variant"),
        *("precision", "recall", "f1", "support", "accuracy"),
    ),
    "recovery": ("seed", "arm", "type", "variant", "round", "recovery", "epochs_to_90"),
    "concepts": (
        *("seed", "arm", "stage", "neuron", "layer", "channel", "concept", "rank"),
        *("pruned", *(saliency.column(name) for name in saliency.SHOWN)),
    ),
    "neurons": (
        *("seed", "arm", "stage", "neuron", "layer", "channel", "pruned", "null"),
        *("top_tokens", "similarity", "unchanged", "target_share"),
    ),
    "similarity_null": ("seed", "arm", "stage", "layer", "pruned", "mean", "low", "high"),
    "layers": (
        *("seed", "arm", "stage", "concept", "layer", "pruned", "neurons", "measure"),
        *("mean", "ci95"),
    ),
    "taken_over": (
        *("seed", "arm", "neuron", "layer", "channel", "pruned", "rank_base", "rank_final"),
        *("saliency_base", "saliency_final", "tokens_base", "tokens_final", "similarity"),
    ),
}
"""The columns that each table must have; a file may hold more, and has `group` first."""
SINCE_DOSE: dict[str, tuple[str, ...]] = {
    "damage": (
        *("arm", "seed", "target", "others", "base", "pruned", "target_loss"),
        *("others_base", "others_pruned", "others_loss", "control_pruned", "control_loss"),
        *("base_accuracy", "accuracy", "base_most_frequent", "most_frequent", "kind"),
    ),
}
"""Tables of groups that older runs lack."""
OF_TARGETS: dict[str, tuple[str, ...]] = {
    "selectivity": (
        *("target", "zeroed", "ranking", "arm", "fraction", "neurons", "seed", "target_loss"),
        *("others_loss", "selectivity", "low", "high", "sentences", "entities", "others"),
    ),
    "choices": ("target", "ranking", "seed", "fraction", "target_loss", "others_loss", "chosen"),
}
"""Tables with rows for each target, shared by its groups; older runs lack them."""

NEURON_TABLES = ("concepts", "neurons")
"""One row per neuron: kept as Parquet only, and read without other columns than those above."""


class Missing(NamedTuple):
    """Stages of one seed and arm that have not been evaluated."""

    seed: int
    arm: str
    stages: tuple[str, ...]


class Group(NamedTuple):
    """What is pruned in the sets of a group; `fraction` or `count` is None."""

    name: str
    target: str
    fraction: float | str | None
    """`auto`: chosen for each seed on the concept text."""
    count: int | None
    regrowth: str
    prune: Mapping[str, Any]
    ranking: str | None = None
    """None: the `prune.ranking` of the run."""
    text: str | int | None = None
    """The retraining text; None: `retrain.data` of the run."""


@dataclass(frozen=True)
class Run:
    """What the files of a run directory say about one group.

    `tables` holds a frame for every name in `COLUMNS`, `SINCE_DOSE` and `OF_TARGETS`, empty where
    the file is absent or was not asked for. The group's page and its files go to `home`.
    """

    folder: Path
    home: Path
    group: Group
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]
    absent: tuple[str, ...]
    missing: tuple[Missing, ...]
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    stages: tuple[str, ...]
    target: str


def read_run(folder: Path, group: str | None = None, leave: Collection[str] = ()) -> Run:
    """Read one group of a run, finished or not: `group`, or the first. Tables in `leave` stay out.

    Raises:
        UserError: no run directory, no manifest or config, a table that cannot be read or lacks a
            column, or not even the base model evaluated.
    """
    folder = Path(folder)
    config, manifest, groups = read_head(folder)
    own = groups[0] if group is None else next(g for g in groups if g.name == group)
    tables = {
        name: read_table(folder, name, columns, own.name, whole=name not in NEURON_TABLES)
        if name not in leave
        else pd.DataFrame(columns=list(columns))
        for name, columns in (COLUMNS | SINCE_DOSE).items()
    }
    for name, columns in OF_TARGETS.items():
        frame = read_table(folder, name, columns)
        tables[name] = frame[frame["target"] == own.target]
    if tables["scores"].empty:
        raise UserError(
            f"{table_path(folder, 'scores')}: the stage `base` is missing: no model of this run "
            "has been evaluated yet, so there is nothing to report. Start `relearn run` again with "
            "the same config to continue it."
        )
    # What is in `groups` and concerns this one is under `target` and `prune`.
    facts = {k: v for k, v in manifest.items() if k not in ("groups", "sets")}
    seeds = tuple(int(s) for s in manifest.get("seeds") or config.get("seeds") or ())
    arms = tuple(manifest.get("arms") or config.get("arms") or ())
    rounds = int((config.get("retrain") or {}).get("rounds", 0))
    stages = ("base", "pruned", *(f"round{r}" for r in range(1, rounds + 1)))
    return Run(
        folder=folder,
        home=folder if len(groups) == 1 else folder / "groups" / own.name,
        group=own,
        config=config,
        manifest=facts | {"target": own.target, "prune": own.prune},
        tables=tables,
        absent=tuple(
            name
            for name in COLUMNS
            if not table_path(folder, name).exists() and (rounds or name != "recovery")
        ),
        missing=_missing(tables["scores"], seeds, arms, stages),
        seeds=seeds,
        arms=arms,
        stages=stages,
        target=own.target,
    )


def read_head(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], tuple[Group, ...]]:
    """Config, manifest and groups of a run of relearning.

    Raises:
        UserError: see `read_files`; also for a manifest without groups.
    """
    config, manifest = read_files(folder)
    try:
        groups = tuple(
            Group(**{k: g[k] for k in Group._fields if k in g or k not in Group._field_defaults})
            for g in manifest["groups"]
        )
    except (KeyError, TypeError):
        groups = ()
    if not groups:
        raise UserError(
            f"{folder / 'manifest.json'}: does not say which groups of concept sets this run has. "
            "It was written by another version; start `relearn run` again with the same config."
        )
    return config, manifest, groups


def tracked_arms(run: Run) -> tuple[str, ...]:
    """The arms whose neurons are pruned and tracked; an oracle's are not."""
    return tuple(arm for arm in run.arms if arm != "oracle")


def main_arm(run: Run) -> str:
    """The arm that the neuron sections show: the concept's own, or the first there is."""
    return "concept" if "concept" in run.arms else run.arms[0]


def last_stage(run: Run, arm: str, table: str = "scores") -> str:
    """The latest stage of an arm that a table has rows of; `pruned` if it has no round."""
    frame = run.tables[table]
    seen = set(frame.loc[frame["arm"] == arm, "stage"].unique()) - {""}
    return max((s for s in seen if s in run.stages), key=run.stages.index, default="pruned")


def _missing(
    scores: pd.DataFrame, seeds: tuple[int, ...], arms: tuple[str, ...], stages: tuple[str, ...]
) -> tuple[Missing, ...]:
    done = set(zip(scores["seed"], scores["arm"], scores["stage"], strict=True))
    planned = [(s, "base", stages[:1]) for s in seeds]
    planned += [(s, a, stages[1:]) for s in seeds for a in arms]
    gaps = (
        Missing(s, a, tuple(stage for stage in names if (s, a, stage) not in done))
        for s, a, names in planned
    )
    return tuple(gap for gap in gaps if gap.stages)


def stage_name(stage: str) -> str:
    """`round3` as a reader would say it."""
    return stage.replace("round", "round ") if stage.startswith("round") else stage
