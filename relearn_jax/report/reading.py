"""Reading a run directory back: config, manifest and tables of any experiment.

A table that is not there yet becomes an empty frame, so that a partial run gives a partial report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as pq
import yaml

from relearn_jax import runs
from relearn_jax.errors import UserError


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


def read_files(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Config and manifest of a run of any experiment.

    Raises:
        UserError: no run directory, one of the two files is absent or not what it should be, or
            the run was written by a later version.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such run directory. Give the folder that `relearn run` wrote."
        )
    config = _mapping(folder / "config.yaml", yaml.safe_load)
    manifest = _mapping(folder / "manifest.json", json.loads)
    if manifest.get("format", 0) > runs.FORMAT:
        version = (manifest.get("versions") or {}).get("relearn-jax", "unknown")
        raise UserError(
            f"{folder} was written by a later version (relearn-jax {version}, format "
            f"{manifest['format']}); this one reads formats up to {runs.FORMAT}. Update it."
        )
    return config, manifest


def table_path(folder: Path, name: str) -> Path:
    """Where a run keeps a table."""
    return folder / "tables" / f"{name}.parquet"


def _mapping(path: Path, parse: Callable[[str], Any]) -> Mapping[str, Any]:
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
    whole: bool = True,
) -> pd.DataFrame:
    """The rows of a group (None: all rows) of a table; empty if there is no such file or no row.

    The file must have these `columns`; unless `whole`, no others are read.

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
            # Without pandas' own types, whose NA is no number to NumPy.
            table = pq.read_table(path, columns=None if whole else list(columns), filters=rows)
            return table.to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({error}). Remove it and continue the run."
        ) from error
    raise UserError(
        f"{path}: lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}. It was written "
        "by another version; remove it and continue the run."
    )


def finite(value: Any) -> bool:
    """Whether a cell holds a number that may be printed."""
    return value is not None and not isinstance(value, str) and bool(np.isfinite(value))
