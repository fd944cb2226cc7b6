"""Results of an editing run, read from its finished stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from relearn_jax import runs
from relearn_jax.evaluation.facts import Answers
from relearn_jax.experiments.facts import provenance
from relearn_jax.experiments.facts import results as localized
from relearn_jax.experiments.facts import stages as names
from relearn_jax.experiments.facts.edits import arms, attack, sweep
from relearn_jax.experiments.facts.edits.arms import ORACLE, ORIGINAL, EditArm
from relearn_jax.experiments.facts.edits.asked import Asked
from relearn_jax.experiments.facts.edits.inside import READINGS
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.facts.edits.weight_masks import Zeroed
from relearn_jax.localize import selection
from relearn_jax.localize.carriers import Carriers
from relearn_jax.localize.selection import Space
from relearn_jax.models.overlay import Layers
from relearn_jax.parallel import mesh as meshes_of


class Edited(NamedTuple):
    """What was measured on the model of an arm."""

    arm: EditArm
    leader: str
    """The arm whose stages these are: the first with the same choice."""
    record: Mapping[str, Any]
    answers: Answers
    right: Mapping[str, np.ndarray]
    """By `READINGS`: whether the probe reads the right answer, [2, L1, F]."""
    injected: Mapping[str, np.ndarray]
    over_time: np.ndarray | None
    """What the original's probes read during the edit, [P, 2, L1, F]; None without training."""
    lens: Mapping[str, np.ndarray]
    """Probability of the `target` and of the `injected` answer by the logit lens, [L1, F]."""
    attacked: Mapping[str, np.ndarray] | None
    """Answers under attack, [C, P, Q]; None before the attack."""
    rounded: Mapping[str, np.ndarray]
    """Answers after rounding, [Q]: `8/right`, `4/injected`, ..."""
    carriers: Carriers
    attacked_carriers: Mapping[int, Carriers]
    """At the end of an attack, by the number of its attacker."""
    questions: np.ndarray | None
    """Whether each question about other things is answered right; None without questions."""


class EditResult(NamedTuple):
    """Results of one seed."""

    setup: EditSetup
    seed: int
    space: Space
    edited: Mapping[str, Edited]
    """By arm, in the order of the run; arms that are not finished are missing."""
    zeroed: Mapping[str, tuple[Zeroed, ...]]
    """By the choice whose weights are set to 0."""

    @property
    def asked(self) -> Asked:
        """Everything that the models were asked."""
        return self.setup.asked[self.seed]


def results(setup: EditSetup, out: Path) -> Iterator[EditResult]:
    """The results of every seed whose original model has been asked."""
    for seed in setup.config.seeds:
        if not runs.has_arrays(out, names.edit_stage(seed, ORIGINAL), "answers"):
            continue
        chosen = localized.read_choice(out, seed)
        members = arms.arms(setup.config, setup.model, chosen, seed)
        space = selection.space(setup.model)
        lead = arms.leaders(members, space)
        edited = {
            arm.name: _read(out, seed, arm, lead[arm.name])
            for arm in members
            if runs.has_arrays(out, names.edit_stage(seed, lead[arm.name]), "answers")
        }
        zeroed = {
            name: _read_zeroed(out, names.mask_stage(seed, name))
            for name in setup.config.weight_masks.arms
            if runs.has_arrays(out, names.mask_stage(seed, name), "answers")
        }
        yield EditResult(setup, seed, space, edited, zeroed)


def _read_zeroed(out: Path, stage: str) -> tuple[Zeroed, ...]:
    arrays = runs.arrays_of(out, stage, "answers")
    entries = runs.read_json(runs.record_file(out, stage))["zeroed"]
    return tuple(
        Zeroed(
            entry["chosen_by"],
            entry["count"],
            {part: np.array(layers) for part, layers in entry["by_layer"].items()},
            Answers(**{kind: arrays[f"{number}/{kind}"] for kind in Answers._fields}),
            entry["text"],
        )
        for number, entry in enumerate(entries)
    )


def _read(out: Path, seed: int, arm: EditArm, leader: str) -> Edited:
    name, attacked = names.edit_stage(seed, leader), names.attack_stage(seed, leader)
    inside = runs.arrays_of(out, name, "inside")
    done, rounded = (runs.has_arrays(out, attacked, file) for file in ("attack", "rounded"))
    return Edited(
        arm,
        leader,
        runs.read_json(runs.record_file(out, name)),
        Answers(**runs.arrays_of(out, name, "answers")),
        {reader: inside[f"right/{reader}"] for reader in READINGS},
        {reader: inside[f"injected/{reader}"] for reader in READINGS},
        runs.arrays_of(out, name, "over_time")["inside"]
        if runs.has_arrays(out, name, "over_time")
        else None,
        runs.arrays_of(out, name, "lens"),
        runs.arrays_of(out, attacked, "attack") if done else None,
        runs.arrays_of(out, attacked, "rounded") if rounded else {},
        Carriers(**runs.arrays_of(out, name, "carriers")),
        _by_attacker(runs.arrays_of(out, attacked, "carriers")) if done else {},
        runs.arrays_of(out, name, "questions")["right"]
        if runs.has_arrays(out, name, "questions")
        else None,
    )


def _by_attacker(arrays: Mapping[str, np.ndarray]) -> dict[int, Carriers]:
    numbers = sorted({int(path.split("/")[0]) for path in arrays})
    return {n: Carriers(*(arrays[f"{n}/{kind}"] for kind in Carriers._fields)) for n in numbers}


def read_layers(out: Path, stage: str) -> Layers:
    """The layers that a finished edit trained."""
    record = runs.read_json(runs.record_file(out, stage))
    return tuple((path, tuple(layers)) for path, layers in record["layers"])


def reportable(setup: EditSetup, out: Path) -> bool:
    """Whether the original model of any seed has been asked."""
    return any(
        runs.has_arrays(out, names.edit_stage(seed, ORIGINAL), "answers")
        for seed in setup.config.seeds
    )


def stages(setup: EditSetup) -> list[str]:
    """Names of the stages that are known before the localization, in the order of computation."""
    config = setup.config
    found = names.stages(config.localization)
    if "oracle" in config.edit.controls:
        found += [names.stage(seed, ORACLE) for seed in config.seeds]
    named = [ORIGINAL, *config.edit.arms, *config.edit.controls]
    for seed in config.seeds:
        found += [names.edit_stage(seed, arm) for arm in named]
        found += [names.mask_stage(seed, arm) for arm in config.weight_masks.arms]
        found += [names.attack_stage(seed, arm) for arm in named]
    return found


def meshes(setup: EditSetup, out: Path) -> dict[str, dict[str, int]]:
    """Sizes of the mesh axes, by the number of models side by side."""
    edit, attacked = setup.config.edit, setup.config.attack
    numbers = {
        len(numbers)
        for count, size in (
            (len(sweep.grid(edit)), edit.side_by_side),
            (len(attack.attackers_of(setup)), attacked.side_by_side),
        )
        for numbers in sweep.chunks(count, size)
    }
    own = {str(n): dict(meshes_of.make(setup.config.parallel, n).shape) for n in sorted(numbers)}
    return provenance.meshes(setup.localization, out) | own


def manifest(setup: EditSetup, out: Path) -> dict[str, Any]:
    """Entries of the manifest: those of the localization, and of the edits."""
    config = setup.config
    split = setup.localization.facts[config.seeds[0]].split
    return provenance.manifest(setup.localization, out) | {
        "edit": {
            "forget": len(split.forget), "held_out": len(split.held_out),
            "retain": len(split.retain), "retain_test": len(split.retain_test),
        },
        "arms": {
            str(result.seed): {name: edited.leader for name, edited in result.edited.items()}
            for result in results(setup, out)
        },
    }  # fmt: skip
