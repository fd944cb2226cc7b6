"""The arms of an edit: which parts of the model may change, and controls."""

from __future__ import annotations

import difflib
from typing import Literal, NamedTuple

import numpy as np

from relearn_jax.config import Editing
from relearn_jax.errors import UserError
from relearn_jax.experiments.facts import teaching
from relearn_jax.localize import choice, selection
from relearn_jax.localize.arms import ALL_MLPS, EVERYTHING, RANDOM, RANDOM_MLPS, Arm
from relearn_jax.localize.choice import Choice
from relearn_jax.localize.methods import LOCALIZERS, SETS_BUDGET
from relearn_jax.localize.selection import Space, Units
from relearn_jax.models.transformer import Model

Kind = Literal["trained", "sham", "sham_scaled", "retain_only", "masked", "oracle", "original"]
ORIGINAL, ORACLE, PLANTED = "original", "oracle", "planted"


class EditArm(NamedTuple):
    """An arm: what it may change, and how."""

    name: str
    kind: Kind
    units: Units | None = None
    """The parts that change; None for a model that is not edited."""


def possible(settings: Editing) -> tuple[str, ...]:
    """Names of all choices that the settings lead to, in the order of arms."""
    scores = [score for name in settings.localize.methods for score in LOCALIZERS[name].scores]
    draws = range(2, settings.edit.random_draws + 1)
    return (
        *((PLANTED,) if settings.teaching.plant_layers else ()),
        *(
            arm.name
            for score in scores
            for arm in (Arm(score), Arm(score, "mlps"))
            if arm.among == "all" or score not in SETS_BUDGET
        ),
        RANDOM.name,
        *((RANDOM_MLPS.name,) if settings.edit.random_draws else ()),
        *(f"{RANDOM_MLPS.name}_{draw}" for draw in draws),
        ALL_MLPS.name,
        EVERYTHING.name,
    )


def check(settings: Editing) -> None:
    """Raise UserError if an arm's name is a choice that the settings do not lead to."""
    available = possible(settings)
    for part in ("edit", "weight_masks"):
        for name in getattr(settings, part).arms:
            if name not in available:
                near = difflib.get_close_matches(name, available, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise UserError(
                    f"{part}.arms: there is no choice {name}; {hint}"
                    f"There are {', '.join(available)}"
                )


def arms(settings: Editing, model: Model, chosen: Choice, seed: int) -> tuple[EditArm, ...]:
    """All arms of a seed: the original, the edits, the controls.

    A localizer that chose nothing has no arm.
    """
    edit = settings.edit
    available = choices(settings, model, chosen, seed)
    wanted = edit.arms or possible(settings)
    trained = [EditArm(name, "trained", available[name]) for name in wanted if name in available]
    controls = {
        "retain_only": EditArm("retain_only", "retain_only", chosen.units[EVERYTHING]),
        "sham": EditArm("sham", "sham", trained[0].units if trained else None),
        "sham_scaled": EditArm("sham_scaled", "sham_scaled", trained[0].units if trained else None),
        "masked": EditArm("masked", "masked", above_planted(settings, model)),
        "oracle": EditArm(ORACLE, "oracle"),
    }
    following = ("retain_only", "sham", "sham_scaled")
    return (
        EditArm(ORIGINAL, "original"),
        *trained,
        *(controls[name] for name in edit.controls if trained or name not in following),
    )


def choices(settings: Editing, model: Model, chosen: Choice, seed: int) -> dict[str, Units]:
    """What each choice holds, by name; empty choices are left out."""
    space = selection.space(model)
    found = {arm.name: units for arm, units in chosen.units.items()}
    truth = teaching.planted(model, settings.teaching)
    if truth is not None:
        found[PLANTED] = truth
    budget = selection.parameter_count(chosen.units[RANDOM_MLPS], space)
    for draw in range(1, settings.edit.random_draws):
        scores = {"mlp": choice.random_scores(space.layers, seed, draw)}
        found[f"{RANDOM_MLPS.name}_{draw + 1}"] = selection.select(scores, budget, space)
    return {name: units for name, units in found.items() if any(map(np.any, units.values()))}


def above_planted(settings: Editing, model: Model) -> Units | None:
    """All components above the planted layers; None: no facts are planted."""
    planted = settings.teaching.plant_layers
    if not planted:
        return None
    above = np.arange(model.config.layers) > max(planted)
    return dict.fromkeys(selection.PARTS, above)


def most(settings: Editing) -> int:
    """The largest number of arms of a seed."""
    return 1 + len(settings.edit.arms or possible(settings)) + len(settings.edit.controls)


def leaders(arms: tuple[EditArm, ...], space: Space) -> dict[str, str]:
    """The arm that is computed for each arm: the first that changes the same parameters in the
    same way."""
    first: dict[tuple, str] = {}
    return {arm.name: first.setdefault(_identity(arm, space), arm.name) for arm in arms}


def _identity(arm: EditArm, space: Space) -> tuple:
    if arm.units is None or arm.kind != "trained":
        return (arm.name,)
    marked = selection.mask(arm.units, space).marked
    return tuple((path, *_content(rows)) for path, rows in sorted(marked.items()))


def _content(marked: np.ndarray) -> tuple:
    """Shape and bytes of a mask without axes along which it does not change."""
    for axis in range(1, marked.ndim):
        if (marked == marked.take([0], axis)).all():
            marked = marked.take([0], axis)
    return marked.shape, marked.tobytes()
