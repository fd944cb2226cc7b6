"""Reading a run of localization back: config, manifest, tables, and what is still missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from relearn_jax.errors import UserError
from relearn_jax.report.reading import read_files, read_table, table_path

COLUMNS: dict[str, tuple[str, ...]] = {
    "gates": ("seed", "name", "value", "limit", "at_least", "passed"),
    "scores": (
        *("seed", "method", "part", "layer", "score", "low", "high"),
        *("null", "null_low", "null_high"),
    ),
    "maps": ("seed", "method", "place", "layer", "position", "role", "share", "null"),
    "heads": ("seed", "method", "layer", "head", "share", "null"),
    "probes": ("seed", "position", "kind", "row", "accuracy", "facts"),
    "selections": (
        *("seed", "method", "part", "layer", "chosen", "share"),
        *("parameters_of_method", "overlap"),
    ),
    "agreement": ("seed", "method_a", "method_b", "spearman", "jaccard"),
    "truth": ("seed", "method", "precision", "recall", "roc_area", "planted", "chosen"),
}
"""The columns that each table must have. A table without rows needs none: a model that was not
taught here has no gates and no planted truth."""


@dataclass(frozen=True)
class Localized:
    """What the files of a run of localization say.

    `tables` holds a frame for every name in `COLUMNS`, empty where the file is absent or has no
    rows. `seeds` are those that were asked for, `done` those that have results. `accuracy` is the
    share of the clean prompts that the model answers right, by seed. `gaps` are what is missing.
    """

    folder: Path
    home: Path
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]
    seeds: tuple[int, ...]
    done: tuple[int, ...]
    layers: int
    accuracy: Mapping[int, float]
    gaps: tuple[str, ...]


def read(folder: Path) -> Localized:
    """Read a run of localization, finished or not.

    Raises:
        UserError: no run directory, no manifest or config, a table that cannot be read or lacks a
            column, or no table with a row in it.
    """
    folder = Path(folder)
    config, manifest = read_files(folder)
    if "format" not in manifest:
        version = (manifest.get("versions") or {}).get("relearn-jax", "unknown")
        raise UserError(
            f"{folder}: this localization was written by an earlier state of relearn-jax (version "
            f"{version}, manifest.json names no format), which named its methods otherwise. "
            f"`relearn run CONFIG --out {folder}` writes its tables again, from its stages where "
            "they still hold."
        )
    tables = {name: read_table(folder, name, columns) for name, columns in COLUMNS.items()}
    done = tuple(sorted({int(s) for frame in tables.values() for s in frame["seed"].unique()}))
    if not done:
        raise UserError(
            f"{folder / 'tables'}: no seed of this run has been localized yet, so there is nothing "
            "to report. Start `relearn run` again with the same config to continue it."
        )
    seeds = tuple(int(s) for s in manifest.get("seeds") or config.get("seeds") or done)
    gaps = [f"seed {seed}" for seed in seeds if seed not in done]
    gaps += [f"tables/{name}.parquet" for name in COLUMNS if not table_path(folder, name).exists()]
    return Localized(
        folder=folder,
        home=folder,
        config=config,
        manifest=manifest,
        tables=tables,
        seeds=seeds,
        done=done,
        layers=_layers(manifest, tables),
        accuracy={int(s): a for s, a in manifest.get("accuracy", {}).items() if int(s) in done},
        gaps=tuple(gaps),
    )


def _layers(manifest: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> int:
    stated = (manifest.get("model") or {}).get("layers")
    counts = [tables[name]["layer"].max() for name in ("scores", "selections", "heads")]
    return int(stated or max((n + 1 for n in counts if n == n), default=1))
