"""Results of a localization, read from its finished stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from relearn_jax import runs
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.experiments.facts import teaching
from relearn_jax.experiments.facts.gates import Gate
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
from relearn_jax.report.facts.tables import usual
from relearn_jax.report.sentences import listed


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
        yield Result(
            seed,
            setup.pairs[seed].clean,
            measured,
            readings,
            all_scores(measured, readings, seed),
            read_choice(out, seed),
            space,
            _chosen(out, seed, "reference") or None,
            recovery.from_arrays(_chosen(out, seed, "found")),
            teaching.planted(setup.decoder.model, config.teaching),
            _gates(out, seed),
            _record(out, seed, EFFECTS)["accuracy"],
        )


def _chosen(out: Path, seed: int, file: str) -> dict[str, np.ndarray]:
    """The arrays of a file of the choice; empty if there is none."""
    name = stage(seed, CHOICE)
    return runs.arrays_of(out, name, file) if runs.has_arrays(out, name, file) else {}


def _record(out: Path, seed: int, kind: str) -> dict[str, Any]:
    path = runs.record_file(out, stage(seed, kind))
    return runs.read_json(path) if path.is_file() else {}


def _gates(out: Path, seed: int) -> list[dict[str, Any]]:
    """The gates on the taught model, if there is one, and on its effects."""
    return _record(out, seed, MODEL).get("gates", []) + _record(out, seed, EFFECTS)["gates"]


def read_effects(out: Path, seed: int) -> tuple[Effects, dict[str, Arrays]]:
    """The effects of a seed, and by localizer what its reader measured."""
    name = stage(seed, EFFECTS)
    readings = {
        file: runs.arrays_of(out, name, file)
        for file, localizer in LOCALIZERS.items()
        if localizer.reader is not None and runs.has_arrays(out, name, file)
    }
    return effects.from_arrays(runs.arrays_of(out, name, "effects")), readings


def read_choice(out: Path, seed: int) -> Choice:
    """The choices of a seed."""
    record = _record(out, seed, CHOICE)
    return choice.from_arrays(_chosen(out, seed, "units"), record["methods"], record["budget"])


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
    """One line: how many gates are passed, and which feed-forward layers the methods choose."""
    seeds = [s for s in setup.config.seeds if runs.has_arrays(out, stage(s, CHOICE), "units")]
    passed = [Gate(**gate).passed for seed in seeds for gate in _gates(out, seed)]
    choices = [read_choice(out, seed) for seed in seeds]
    space = selection.space(setup.decoder.model)
    methods_of: dict[str, list[str]] = {}
    for method in dict.fromkeys(method for chosen in choices for method in chosen.methods):
        counts = [selection.counts(chosen.among_mlps(method), space)["mlp"] for chosen in choices]
        layers = usual([np.flatnonzero(count) for count in counts], len(seeds))
        methods_of.setdefault(layers, []).append(SCORES[method].label)
    often = f" in at least half of {len(seeds)} seeds" if len(seeds) > 1 else ""
    found = "; ".join(f"{layers} by {listed(names)}" for layers, names in methods_of.items())
    gates = f"{sum(passed)} of {len(passed)} gates passed; " if passed else ""
    return f"{gates}MLPs chosen{often}: {found}"
