"""Reading a group of a run back: config, manifest and tables, and what is still missing.

A group is all that was done for one target concept, fraction and regrowth: its seeds and arms.
Nothing here computes; a table that is not there yet becomes an empty frame, so that a partial run
still gives a partial report.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as pq
import yaml

from relearn_jax.errors import UserError

COLUMNS: dict[str, tuple[str, ...]] = {
    "scores": (
        *("seed", "arm", "stage", "round", "epoch", "type", "variant"),
        *("precision", "recall", "f1", "support", "accuracy"),
    ),
    "recovery": ("seed", "arm", "type", "variant", "round", "recovery", "epochs_to_90"),
    "concepts": (
        *("seed", "arm", "stage", "neuron", "layer", "channel", "concept", "rank"),
        *("saliency_rank", "saliency_standardized", "pruned"),
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
"""The columns of each table that the report uses; a file may hold more, and has `group` first."""

NEURON_TABLES = ("concepts", "neurons")
"""One row per neuron: kept as Parquet only."""


class Missing(NamedTuple):
    """Stages of one seed and arm that have not been evaluated."""

    seed: int
    arm: str
    stages: tuple[str, ...]


class Group(NamedTuple):
    """What is pruned in the sets of a group; `fraction` or `count` is None."""

    name: str
    target: str
    fraction: float | None
    count: int | None
    regrowth: str
    prune: Mapping[str, Any]


class Directory(Protocol):
    """A run directory of any experiment; its pages go to `home`."""

    @property
    def folder(self) -> Path: ...
    @property
    def home(self) -> Path: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def manifest(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Run:
    """What the files of a run directory say about one group.

    `tables` holds a frame for every name in `COLUMNS`, empty where the file is absent or was not
    asked for. The group's page and its files go to `home`.
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
        name: read_table(folder, name, columns, own.name)
        if name not in leave
        else pd.DataFrame(columns=list(columns))
        for name, columns in COLUMNS.items()
    }
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
        absent=tuple(name for name in COLUMNS if not table_path(folder, name).exists()),
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
        groups = tuple(Group(**{k: g[k] for k in Group._fields}) for g in manifest["groups"])
    except (KeyError, TypeError):
        groups = ()
    if not groups:
        raise UserError(
            f"{folder / 'manifest.json'}: does not say which groups of concept sets this run has. "
            "It was written by another version; start `relearn run` again with the same config."
        )
    return config, manifest, groups


def read_files(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Config and manifest of a run of any experiment.

    Raises:
        UserError: no run directory, or one of the two files is absent or not what it should be.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such run directory. Give the folder that `relearn run` wrote."
        )
    config = _mapping(folder / "config.yaml", yaml.safe_load)
    return config, _mapping(folder / "manifest.json", json.loads)


def main_arm(run: Run) -> str:
    """The arm that the neuron sections show: the concept's own, or the first there is."""
    return "concept" if "concept" in run.arms else run.arms[0]


def last_stage(run: Run, arm: str, table: str = "scores") -> str:
    """The latest stage of `arm` that a table knows (`pruned` where no round is there)."""
    frame = run.tables[table]
    seen = set(frame.loc[frame["arm"] == arm, "stage"].unique()) - {""}
    return max((s for s in seen if s in run.stages), key=run.stages.index, default="pruned")


def table_path(folder: Path, name: str) -> Path:
    """Where a run keeps a table."""
    return folder / "tables" / f"{name}.parquet"


def _mapping(path: Path, parse) -> Mapping[str, Any]:
    if not path.exists():
        done = sorted(p.parent.name for p in path.parent.glob("stages/*/stage.json"))
        where = (
            f"{len(done)} stages of this run are finished ({', '.join(done[-3:])} among them) and "
            "the rest is missing; start `relearn run` again with the same config to continue it."
            if done
            else "This run has finished no stage yet; the same command continues it."
            if (path.parent / "config.yaml").is_file()
            else "Is this the folder that `relearn run` wrote?"
        )
        raise UserError(f"{path}: not found. {where}")
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Start the run again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no mapping of names to values. Start the run again.")
    return value


def read_table(
    folder: Path,
    name: str,
    columns: Sequence[str],
    group: str | None = None,
    optional: Sequence[str] = (),
) -> pd.DataFrame:
    """The rows of a group (None: all rows) of a table; empty if there is no such file or no row.

    `optional` columns are read where the file has them.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    path = table_path(folder, name)
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    needed = columns if group is None else ("group", *columns)
    try:
        if not pq.read_metadata(path).num_rows:
            return pd.DataFrame(columns=list(columns))
        present = set(pq.read_schema(path).names)
        lacking = [c for c in needed if c not in present]
        if not lacking:
            rows = None if group is None else [("group", "==", group)]
            wanted = [*columns, *(c for c in optional if c in present)]
            # Without pandas' own types, whose NA is no number to NumPy.
            table = pq.read_table(path, columns=wanted, filters=rows)
            return table.to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({error}). Remove it and continue the run."
        ) from error
    raise UserError(
        f"{path}: lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}. It was written "
        "by another version; remove it and continue the run."
    )


def _missing(
    scores: pd.DataFrame, seeds: tuple[int, ...], arms: tuple[str, ...], stages: tuple[str, ...]
) -> tuple[Missing, ...]:
    done = set(zip(scores["seed"], scores["arm"], scores["stage"], strict=True))
    wanted = [(s, "base", stages[:1]) for s in seeds]
    wanted += [(s, a, stages[1:]) for s in seeds for a in arms]
    gaps = (
        Missing(s, a, tuple(stage for stage in some if (s, a, stage) not in done))
        for s, a, some in wanted
    )
    return tuple(gap for gap in gaps if gap.stages)


def stage_name(stage: str) -> str:
    """`round3` as a reader would say it."""
    return stage.replace("round", "round ") if stage.startswith("round") else stage


def finite(value: Any) -> bool:
    """Whether a cell holds a number that may be printed."""
    return value is not None and not isinstance(value, str) and bool(np.isfinite(value))
