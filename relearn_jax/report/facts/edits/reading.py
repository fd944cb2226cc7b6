"""Reading an editing run back: its localization, and the tables of its arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from relearn_jax.report.facts import reading
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.reading import read_table, table_path

COLUMNS: dict[str, tuple[str, ...]] = {
    "arms": ("seed", "arm", "kind", "same_as", "verdict", "reason"),
    "verdicts": (
        *("arm", "verdict", "answers_verdict", "answers_reason", "inside_verdict", "inside_reason"),
        *("truth", "seeds", "agree"),
        *("recovery", "recovery_low", "recovery_high"),
    ),
    "answers": (
        *("seed", "arm", "format", "group", "fact", "subject", "target", "injected", "says"),
        *("right", "says_injected", "p_target"),
    ),
    "grid": ("seed", "arm", "learning_rate", "forget_weight", "edited", "kept", "taken"),
    "attacks": ("seed", "arm", "learning_rate", "layer", "step", "held_out", "shown", "retained"),
    "attacked_answers": ("seed", "arm", "fact", "right", "void"),
    "layers_attacked": ("seed", "arm", "layer", "held_out", "shown", "retained", "planted"),
    "inside_over_time": ("seed", "arm", "stage", "step", "position", "state", "right"),
    "carriers": ("seed", "arm", "stage", "layer", "effect", "planted"),
    "lineage": ("seed", "arm", "stage", "same", "matched", "shuffled", "planted"),
    "heirs": ("seed", "arm", "stage", "place", "layer", "neuron", "effect", "carried_before"),
    "weight_masks": ("arm", "chosen_by", "zeroed", "still", "kept", "planted"),
    "lens": ("seed", "arm", "state", "p_target", "p_injected"),
    "inside": ("seed", "arm", "probe", "position", "state", "right", "injected", "facts"),
}
"""The columns that each table of the edits must have, besides those of the localization."""


@dataclass(frozen=True)
class EditRun:
    """What the files of an editing run say; `edits` holds a frame for every name in `COLUMNS`."""

    localized: Localized
    edits: Mapping[str, pd.DataFrame]
    gaps: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.localized.folder

    @property
    def home(self) -> Path:
        """The folder that pages are written to."""
        return self.localized.home

    @property
    def config(self) -> Mapping[str, Any]:
        """The config as it was run."""
        return self.localized.config

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest."""
        return self.localized.manifest

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds with edited models."""
        return tuple(sorted(int(seed) for seed in self.edits["arms"]["seed"].unique()))

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms, in the order of the run."""
        return tuple(dict.fromkeys(self.edits["arms"]["arm"]))

    @property
    def format(self) -> str:
        """The format that was edited."""
        return (self.config.get("edit") or {}).get("format", "standard")


def read(folder: Path) -> EditRun:
    """Read an editing run, finished or not.

    Raises:
      UserError: see `facts.reading.read`.
    """
    localized = reading.read(folder)
    edits = {name: read_table(folder, name, columns) for name, columns in COLUMNS.items()}
    gaps = list(localized.gaps)
    gaps += [f"tables/{name}.parquet" for name in COLUMNS if not table_path(folder, name).exists()]
    arms = edits["arms"]
    if len(arms) and "attacked" in arms:
        waiting = arms.loc[~arms["attacked"].astype(bool), "arm"]
        gaps += [f"the attack on {arm}" for arm in dict.fromkeys(waiting)]
    return EditRun(localized, edits, tuple(gaps))
