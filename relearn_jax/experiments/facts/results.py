"""Results of a localization, read from its finished stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from relearn_jax import runs
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.experiments.facts import teaching
from relearn_jax.experiments.facts.setup import Setup
from relearn_jax.experiments.facts.stages import CHOICE, EFFECTS, MODEL, stage
from relearn_jax.localize import choice, effects, probes, scores, selection
from relearn_jax.localize.choice import Choice
from relearn_jax.localize.effects import Effects
from relearn_jax.localize.methods import SCORES
from relearn_jax.localize.probes import Readings
from relearn_jax.localize.scores import LayerScores
from relearn_jax.localize.selection import Space, Units


class Result(NamedTuple):
    """Results of one seed, from its stages."""

    seed: int
    clean: Prompts
    effects: Effects
    readings: Readings | None
    """None: without probes."""
    scores: Mapping[str, Mapping[str, LayerScores]]
    """By method and part of a layer."""
    choice: Choice
    space: Space
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
            choice.from_arrays(
                runs.arrays_of(out, stage(seed, CHOICE), "units"),
                chosen["methods"],
                chosen["budget"],
            ),
            space,
            teaching.planted(setup.decoder.model, config.teaching)
            if config.teaching.plant_layers
            else None,
            records[MODEL].get("gates", []) + records[EFFECTS]["gates"],
            records[EFFECTS]["accuracy"],
        )


def _record(out: Path, seed: int, kind: str) -> dict[str, Any]:
    path = runs.record_file(out, stage(seed, kind))
    return runs.read_json(path) if path.is_file() else {}


def read_effects(out: Path, seed: int) -> tuple[Effects, Readings | None]:
    """The effects of a seed, and the accuracies of its probes."""
    name = stage(seed, EFFECTS)
    readings = None
    if runs.has_arrays(out, name, "probes"):
        readings = probes.from_arrays(runs.arrays_of(out, name, "probes"))
    return effects.from_arrays(runs.arrays_of(out, name, "effects")), readings


def all_scores(
    measured: Effects, readings: Readings | None, seed: int
) -> dict[str, dict[str, LayerScores]]:
    """Scores by method and part of a layer; scores of probes are gains in accuracy."""
    by_method = scores.layer_scores(measured, SCORES, seed)
    return by_method | ({} if readings is None else {"probes": probes.scores(readings)})


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
