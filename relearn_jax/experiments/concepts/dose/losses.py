"""Table rows of relative losses and selectivity, with intervals over sentences and over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from relearn_jax.config import Relearning
from relearn_jax.evaluation import selectivity
from relearn_jax.evaluation.seeds import half_width
from relearn_jax.evaluation.selectivity import Loss
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.dose.choice import Choices
from relearn_jax.experiments.concepts.dose.tables import Curve
from relearn_jax.experiments.concepts.sets import Group

CONTROL = "layer_matched"


class Line(NamedTuple):
    """A line of a table of selectivity: a mask of each seed's curve, and that of its control."""

    facts: dict[str, Any]
    """Columns that all seeds share."""
    rows: tuple[int, ...]
    controls: tuple[int, ...] | None
    fractions: tuple[float, ...] | None = None
    """The share that each seed prunes, if they may differ."""


class Measured(NamedTuple):
    """Losses of the K lines, of one seed or as means over seeds."""

    losses: Loss
    draws: Loss
    """[R, K]: on R draws of sentences."""
    controls: Loss
    """Of each line's control; of the base model where it has none."""
    control_draws: Loss


def selectivity_rows(curves: Sequence[Curve], types: Sequence[str]) -> pd.DataFrame:
    """Relative losses and selectivity at every point, by seed and as means over seeds.

    The rows of means have no `seed`. `low` and `high` are the 95 % interval over sentences; for
    means the same sentences are drawn for all seeds. `seeds_low` and `seeds_high` are Student's
    95 % interval over seeds. `against` is the selectivity less that of the layer-matched control.
    """
    rows: list[dict[str, Any]] = []
    for zeroed in dict.fromkeys(curve.zeroed for curve in curves):
        alike = [curve for curve in curves if curve.zeroed == zeroed]
        for target in dict.fromkeys(alike[0].points["target"]):
            rows += _measured(alike, target, types, _point_lines(alike, target))
    return _with_seeds(rows)


def group_rows(
    curves: Sequence[Curve],
    types: Sequence[str],
    settings: Relearning,
    choices: Choices,
    size: int,
) -> pd.DataFrame:
    """`selectivity_rows` of the groups, each seed at its own fraction of the `size` neurons."""
    alike = [curve for curve in curves if curve.zeroed == settings.prune.target]
    rows: list[dict[str, Any]] = []
    for group in sets.groups(settings):
        if alike:
            lines = _group_lines(alike, group, settings, choices, size)
            rows += _measured(alike, group.target, types, lines)
    return _with_seeds(rows)


def _with_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"seed": "Int64"}) if rows else pd.DataFrame()


def _point_lines(curves: Sequence[Curve], target: str) -> list[Line]:
    """A line for each point that all curves have."""
    keys = ["ranking", "arm", "fraction"]
    places = [
        curve.points[curve.points["target"] == target].set_index(keys)["row"] for curve in curves
    ]
    table = pd.concat(places, axis=1, join="inner", keys=range(len(places)))
    neurons = curves[0].points[curves[0].points["target"] == target].set_index(keys)["neurons"]
    masks = {key: tuple(rows) for key, *rows in table.itertuples(name=None)}
    return [
        Line(
            {
                "target": target, "zeroed": curves[0].zeroed, "ranking": ranking, "arm": arm,
                "fraction": fraction, "neurons": int(neurons[ranking, arm, fraction]),
            },
            row,
            masks.get((ranking, CONTROL, fraction)),
        )
        for (ranking, arm, fraction), row in masks.items()
    ]  # fmt: skip


def _group_lines(
    curves: Sequence[Curve],
    group: Group,
    settings: Relearning,
    choices: Choices,
    size: int,
) -> Iterator[Line]:
    """A line for each arm of a group, if all curves have its points."""
    ranking = sets.prune_settings(settings, group).ranking
    shares = [
        choices.get((curve.seed, group.target, ranking))
        if group.fraction == "auto"
        else group.count / size
        if group.fraction is None
        else group.fraction
        for curve in curves
    ]

    def masks(arm: str) -> tuple[int, ...] | None:
        rows = []
        for curve, share in zip(curves, shares, strict=True):
            points = curve.points
            here = (points["target"] == group.target) & (points["ranking"] == ranking)
            found = points.loc[here & (points["arm"] == arm) & (points["fraction"] == share), "row"]
            rows += found.tolist()
        return tuple(rows) if len(rows) == len(curves) else None

    controls = masks(CONTROL)
    for arm in settings.arms:
        rows = masks(arm)
        if rows is not None:
            facts = {"group": sets.group_name(group), "target": group.target, "arm": arm}
            yield Line(facts, rows, controls, tuple(shares))


def _measured(
    curves: Sequence[Curve], target: str, types: Sequence[str], lines: Iterable[Line]
) -> Iterator[dict[str, Any]]:
    """The rows of lines: of each seed, and of the mean."""
    lines = list(lines)
    y = list(types).index(target) if target in types else selectivity.ALL
    others = selectivity.others(np.mean([curve.scores[0] for curve in curves], axis=0), y)

    def of(curve: Curve, rows: list[int]) -> tuple[Loss, Loss]:
        return (
            selectivity.losses(curve.scores[rows], curve.scores[0], y, others),
            selectivity.losses(curve.draws[:, rows], curve.draws[:, :1], y, others),
        )

    parts = [
        Measured(
            *of(curve, [line.rows[s] for line in lines]),
            *of(curve, [line.controls[s] if line.controls else 0 for line in lines]),
        )
        for s, curve in enumerate(curves)
    ]
    mean = Measured(*(Loss(*np.mean(column, axis=0)) for column in zip(*parts, strict=True)))
    shared = {
        "others": ", ".join((*types, "words outside entities", "all types")[i] for i in others),
        "sentences": curves[0].counts.words.shape[1],
        "entities": _gold(curves[0], y),
    }
    for k, line in enumerate(lines):
        for s, (curve, part) in enumerate(zip(curves, parts, strict=True)):
            place = {"seed": curve.seed, "seeds": 1, **_shares(line, s)}
            yield line.facts | place | shared | _numbers(part, k, line, [part])
        place = {"seed": None, "seeds": len(parts), **_shares(line)}
        yield line.facts | place | shared | _numbers(mean, k, line, parts)


def _gold(curve: Curve, y: int) -> int:
    """Number of gold entities of a type, or of all types, in the text of a curve."""
    gold = curve.counts.entities[0, ..., 2]
    return int(gold.sum() if y == selectivity.ALL else gold[:, y].sum())


def _shares(line: Line, seed: int | None = None) -> dict[str, float]:
    """The smallest and the largest share that is pruned: of all seeds, or of one."""
    if line.fractions is None:
        return {}
    shares = line.fractions if seed is None else line.fractions[seed : seed + 1]
    return {"fraction_low": min(shares), "fraction_high": max(shares)}


def _numbers(part: Measured, k: int, line: Line, seeds: Sequence[Measured]) -> dict[str, float]:
    """The numbers of line `k`, whose spread is that over `seeds`."""
    spread = np.array([each.losses.selectivity[k] for each in seeds])
    numbers = {
        "target_loss": part.losses.target[k],
        "others_loss": part.losses.others[k],
        "selectivity": part.losses.selectivity[k],
        **_interval(part.draws.selectivity[:, k], ""),
        **_over_seeds(spread, ""),
    }
    if line.controls is None:
        return numbers
    above = spread - [each.controls.selectivity[k] for each in seeds]
    draws = part.draws.selectivity[:, k] - part.control_draws.selectivity[:, k]
    return numbers | {
        "against": part.losses.selectivity[k] - part.controls.selectivity[k],
        **_interval(draws, "against_"),
        **_over_seeds(above, "against_"),
    }


def _interval(draws: Float[np.ndarray, " R"], prefix: str) -> dict[str, float]:
    low, high = selectivity.interval(draws)
    return {f"{prefix}low": float(low), f"{prefix}high": float(high)}


def _over_seeds(values: Float[np.ndarray, " seeds"], prefix: str) -> dict[str, float]:
    """Student's 95 % interval; NaN for one seed."""
    mean, half = values.mean(), half_width(values)
    return {f"{prefix}seeds_low": float(mean - half), f"{prefix}seeds_high": float(mean + half)}
