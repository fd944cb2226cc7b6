"""Results of a localization, read from its finished stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from relearn_jax import runs
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.experiments.facts import teaching
from relearn_jax.experiments.facts.setup import Setup
from relearn_jax.experiments.facts.stages import CHOICE, EFFECTS, MODEL, stage
from relearn_jax.localize import choice, effects, recovery, scores, selection
from relearn_jax.localize.arms import Arm
from relearn_jax.localize.choice import Choice
from relearn_jax.localize.effects import Effects
from relearn_jax.localize.localizer import Arrays
from relearn_jax.localize.methods import LOCALIZERS, SCORES
from relearn_jax.localize.recovery import Recovery
from relearn_jax.localize.scores import LayerScores
from relearn_jax.localize.selection import Space, Units


class Result(NamedTuple):
    """Results of one seed, from its stages."""

    seed: int
    clean: Prompts
    effects: Effects
    readings: Mapping[str, Arrays]
    """By localizer, what its reader measured."""
    scores: Mapping[str, Mapping[str, LayerScores]]
    """By method and part of a layer."""
    choice: Choice
    space: Space
    reference: Units | None
    """Where facts are looked up: the planted layers, or what stands in for them."""
    found: Mapping[Arm, Recovery]
    """How each method finds the planted layers; empty if no facts were planted."""
    planted: Units | None
    """The layers that the facts were planted in; None if they were not."""
    gates: list[dict[str, Any]]
    accuracy: float
    """Share of the clean prompts that the model answers correctly."""


def results(setup: Setup, out: Path) -> Iterator[Result]:
    """The results of every seed whose components have been chosen."""
    config = setup.config
    space = selection.space(setup.decoder.model)
    for seed in config.seeds:
        if not runs.has_arrays(out, stage(seed, CHOICE), "units"):
            continue
        measured, readings = read_effects(out, seed)
        records = {kind: _record(out, seed, kind) for kind in (MODEL, EFFECTS, CHOICE)}
        chosen = records[CHOICE]
        yield Result(
            seed,
            setup.pairs[seed].clean,
            measured,
            readings,
            all_scores(measured, readings, seed),
            choice.from_arrays(_chosen(out, seed, "units"), chosen["methods"], chosen["budget"]),
            space,
            _chosen(out, seed, "reference") or None,
            recovery.from_arrays(_chosen(out, seed, "found")),
            teaching.planted(setup.decoder.model, config.teaching),
            records[MODEL].get("gates", []) + records[EFFECTS]["gates"],
            records[EFFECTS]["accuracy"],
        )


def _chosen(out: Path, seed: int, file: str) -> dict[str, np.ndarray]:
    """The arrays of a file of the choice; empty if there is none."""
    name = stage(seed, CHOICE)
    return runs.arrays_of(out, name, file) if runs.has_arrays(out, name, file) else {}


def _record(out: Path, seed: int, kind: str) -> dict[str, Any]:
    path = runs.record_file(out, stage(seed, kind))
    return runs.read_json(path) if path.is_file() else {}


def read_effects(out: Path, seed: int) -> tuple[Effects, dict[str, Arrays]]:
    """The effects of a seed, and by localizer what its reader measured."""
    name = stage(seed, EFFECTS)
    readings = {
        file: runs.arrays_of(out, name, file)
        for file, localizer in LOCALIZERS.items()
        if localizer.reader is not None and runs.has_arrays(out, name, file)
    }
    return effects.from_arrays(runs.arrays_of(out, name, "effects")), readings


def all_scores(
    measured: Effects, readings: Mapping[str, Arrays], seed: int
) -> dict[str, Mapping[str, LayerScores]]:
    """Scores by method and part of a layer."""
    by_method: dict[str, Mapping[str, LayerScores]] = {}
    by_method |= scores.layer_scores(measured, SCORES, seed)
    for name, arrays in readings.items():
        if (reader := LOCALIZERS[name].reader) is not None:
            by_method |= reader.scores(arrays)
    return by_method


def reportable(setup: Setup, out: Path) -> bool:
    """Whether the components of any seed have been chosen."""
    return any(runs.has_arrays(out, stage(s, CHOICE), "units") for s in setup.config.seeds)


def headline(setup: Setup, out: Path) -> str:
    """One line: whether the gates are passed, and which layers the methods choose."""
    gates = pd.read_parquet(out / "tables" / "gates.parquet")
    chosen = pd.read_parquet(out / "tables" / "selections.parquet")
    parts = [f"{gates.passed.sum()} of {len(gates)} gates passed"] if len(gates) else []
    for method in ("probes", "noising_mlps", "attribution_path_mlps"):
        rows = chosen[(chosen.method == method) & (chosen.part == "mlp") & chosen.chosen]
        if len(rows):
            share = rows.groupby("layer").seed.nunique() / chosen.seed.nunique()
            layers = ", ".join(str(layer) for layer in share[share >= 0.5].index)
            parts.append(f"{method} chooses MLP {layers or 'of no layer twice'}")
    return "; ".join(parts)
